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
        // "another namespace", which was not true.
        "spawn: client readlink#1 ENOMEM",
        "spawn: client readlink#2 ENOMEM",
        "hello: daemon readlink#1 ENOMEM",
        "hello: daemon statx#1 ENOMEM",
        "hello: daemon openat#1 EMFILE",
    };
    return found;
}

}  // namespace cleanfork::faults
