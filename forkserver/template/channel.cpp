#include "forkserver/template/channel.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <string_view>

#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/message.hpp"

namespace cleanfork::templates {

namespace {

// The kernel tells nobody when there are buffers, or room for descriptors in flight, again.
constexpr int k_pause_ms = 10;
constexpr int k_most_send_pauses = 200;

bool passes(int e) noexcept { return e == ENOBUFS || e == ENOMEM || e == ETOOMANYREFS; }

template <class Send>
bool send_whole(int control, Send send) {
    for (int pauses = 0;;) {
        switch (send()) {
            case ipc::send_status::sent: return true;
            case ipc::send_status::would_block: break;
            case ipc::send_status::closed: return false;
            case ipc::send_status::failed:
                if (!passes(errno) || ++pauses > k_most_send_pauses) return false;
                ::poll(nullptr, 0, k_pause_ms);
                continue;
        }
        pollfd p{control, POLLOUT, 0};
        ipc::retry([&] { return ::poll(&p, 1, -1); });
    }
}

bool report_event(int control, std::string_view body, std::span<const int> descriptors = {}) {
    return send_whole(control, [&] { return ipc::send_packet(control, body, descriptors); });
}

template <class T>
std::string_view bytes_of(const T& t) {
    return {reinterpret_cast<const char*>(&t), sizeof t};
}

}  // namespace

bool report(int control, const v1::TemplateMessage& m) {
    const auto e = ipc::encode(m);
    return e && send_whole(control, [&] { return ipc::send(control, *e, {}); });
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
bool report_with_pidfd(int control, const child_event& e) {
    const unique_fd self = ipc::pidfd_open(e.pid);
    if (!self && !ipc::is_missing(errno)) return false;
    const int fd = self.get();
    return report_event(control, bytes_of(e), {&fd, self ? 1U : 0U});
}

}  // namespace

bool report_parked(int control, std::uint64_t sequence) {
    return report_with_pidfd(
        control, {.kind = report_kind::parked, .sequence = sequence, .pid = ::getpid()});
}

bool report_started(int control, std::uint64_t sequence, was_parked before) {
    const child_event e{.kind = report_kind::started, .sequence = sequence, .pid = ::getpid()};
    return before == was_parked::yes ? report_event(control, bytes_of(e))
                                     : report_with_pidfd(control, e);
}

bool report_ended(int control, const child_end& end, std::string_view error) {
    if (error.empty()) return report_event(control, bytes_of(end));
    std::string body(bytes_of(end));
    return report_event(control, body.append(error));
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
