#include "tests/faults/found.hpp"

namespace cleanfork::faults {

const std::vector<std::string_view>& all_found() {
    static const std::vector<std::string_view> found{
        // A name left on disk by one that was killed while it began.
        "start: daemon listen#1 KILL",
        "start: daemon renameat#1 KILL",
        // The program aborted.
        "launch: client openat#4 EMFILE",
        "hello: client openat#1 EMFILE",
        // Nobody was told why it did not serve.
        "launch: daemon getsockopt#1 ENOBUFS",
        // "another namespace", which was not true, also of the next start.
        "spawn: client readlink#1 ENOMEM",
        "spawn: client readlink#2 ENOMEM",
        "reload: client statx#1 ENOMEM",
        "hello: daemon readlink#1 ENOMEM",
        "hello: daemon statx#1 ENOMEM",
        "hello: daemon openat#1 EMFILE",
        // EMFILE, which was not true.
        "hello: daemon accept4#1 ENOBUFS",
        // "no /proc", which was not true.
        "template: daemon access#1 ENOMEM",
        // The template ended, and with it the calls of all.
        "call: daemon newfstatat#1 ENOMEM",
        "call: daemon getdents64#1 EIO",
        "call: template recvmsg#1 ENOMEM",
        // Told as failed while it ran.
        "call: template-child pidfd_open#1 ENOMEM",
        "call: template-child sendmsg#1 ENOBUFS",
        "call: daemon statx#4 ENOMEM",
        "spawn: daemon epoll_ctl#1 ENOMEM",
        // Descriptors of a request stayed open.
        "spawn: daemon allocation#1 ENOMEM",
        // The forkserver crashed.
        "call: daemon allocation#24 ENOMEM",
        "call: daemon allocation#25 ENOMEM",
        "template: daemon allocation#14 ENOMEM",
        "batch: daemon allocation#98 ENOMEM",
        // Nobody was told.
        "call: daemon allocation#32 ENOMEM",
        "call: daemon allocation#37 ENOMEM",
        "template: daemon allocation#311 ENOMEM",
        "batch: daemon allocation#77 ENOMEM",
        "batch: daemon allocation#121 ENOMEM",
        "exit: template waitid#1 EINTR",
        // A child that nobody ended.
        "session-end: daemon allocation#13 ENOMEM",
        "session-end: daemon allocation#14 ENOMEM",
    };
    return found;
}

}  // namespace cleanfork::faults
