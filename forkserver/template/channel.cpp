#include "forkserver/template/channel.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <exception>

#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/message.hpp"

namespace cleanfork::templates {

namespace {

// The kernel tells nobody when there are buffers, or room for descriptors in flight, again.
constexpr int k_pause_ms = 10;
constexpr int k_most_pauses = 200;

bool passes(int e) noexcept { return e == ENOBUFS || e == ENOMEM || e == ETOOMANYREFS; }

}  // namespace

bool report(int control, const v1::TemplateMessage& m, std::span<const int> descriptors) {
    const auto e = ipc::encode(m);
    if (!e) return false;
    for (int pauses = 0;;) {
        switch (ipc::send(control, *e, descriptors)) {
            case ipc::send_status::sent: return true;
            case ipc::send_status::would_block: break;
            case ipc::send_status::closed: return false;
            case ipc::send_status::failed:
                if (!passes(errno) || ++pauses > k_most_pauses) return false;
                ::poll(nullptr, 0, k_pause_ms);
                continue;
        }
        pollfd p{control, POLLOUT, 0};
        ipc::retry([&] { return ::poll(&p, 1, -1); });
    }
}

bool report_failed(int control, const failure& why) {
    v1::TemplateMessage m;
    ipc::to_wire(why, *m.mutable_failed());
    return report(control, m);
}

bool report_child_failed(int control, std::uint64_t sequence, const failure& why) {
    v1::TemplateMessage m;
    m.mutable_child_failed()->set_sequence(sequence);
    ipc::to_wire(why, *m.mutable_child_failed()->mutable_failure());
    return report(control, m);
}

namespace {

// Where there is none for a filter of seccomp, the forkserver opens one by the sender's number: too
// late for a child that has ended by then.
bool report_with_pidfd(int control, v1::TemplateMessage& m) {
    const unique_fd self = ipc::pidfd_open(::getpid());
    if (!self && !ipc::is_missing(errno)) return false;
    if (!self) return report(control, m);
    m.add_descriptors(v1::DESCRIPTOR_PURPOSE_PIDFD);
    const int fd = self.get();
    return report(control, m, {&fd, 1});
}

}  // namespace

bool report_parked(int control, std::uint64_t sequence) {
    v1::TemplateMessage m;
    m.mutable_parked()->set_sequence(sequence);
    m.mutable_parked()->set_pid(::getpid());
    return report_with_pidfd(control, m);
}

bool report_started(int control, std::uint64_t sequence, was_parked before) {
    v1::TemplateMessage m;
    m.mutable_started()->set_sequence(sequence);
    m.mutable_started()->set_pid(::getpid());
    return before == was_parked::yes ? report(control, m) : report_with_pidfd(control, m);
}

std::string text_of_current_exception() {
    try {
        throw;
    } catch (const std::exception& e) {
        return e.what();
    } catch (...) {
        return "an exception that is no std::exception";
    }
}

}  // namespace cleanfork::templates
