// A template that speaks the protocol itself and tells what is not true. LIAR says what:
//   foreign   the process of LIAR_VICTIM, which is none of its children, as the child of a call
//   alive     the end of a child that lives
//   no_pidfd  a descriptor that is no pidfd
//   version   that it is of an earlier version of cleanfork
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "forkserver/spawn/call_block.hpp"
#include "forkserver/template/order.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/wire/message.hpp"
#include "ipc/wire/packet.hpp"

using namespace cleanfork;

namespace {

void tell(int control, const v1::TemplateMessage& m) {
    const auto encoded = ipc::encode(m);
    if (!encoded || ipc::send(control, *encoded, {}) != ipc::send_status::sent) ::_exit(1);
}

template <class Report>
void tell(int control, const Report& r, std::span<const int> fds) {
    if (ipc::send_packet(control, {reinterpret_cast<const char*>(&r), sizeof r}, fds) !=
        ipc::send_status::sent)
        ::_exit(1);
}

void tell_started(int control, std::uint64_t sequence, pid_t pid, int fd) {
    const templates::child_event e{
        .kind = templates::report_kind::started, .sequence = sequence, .pid = pid};
    tell(control, e, {&fd, 1});
}

void tell_ended(int control, std::uint64_t sequence, pid_t pid) {
    const templates::child_end e{{.kind = templates::report_kind::ended,
                                  .sequence = sequence,
                                  .pid = pid,
                                  .wait_status = 42 << 8},
                                 {}};
    tell(control, e, {});
}

void answer(int control, const templates::order& o, const std::string& lie) {
    if (o.kind != templates::order_kind::fork) return;
    if (lie == "foreign") {
        const pid_t victim = std::atoi(std::getenv("LIAR_VICTIM"));
        const unique_fd pidfd = ipc::pidfd_open(victim);
        return tell_started(control, o.sequence, victim, pidfd.get());
    }
    int told[2];
    if (::pipe2(told, O_CLOEXEC) != 0) ::_exit(1);
    const pid_t child = ::fork();
    if (child == 0) {
        const unique_fd pidfd = lie == "no_pidfd" ? unique_fd(::open("/dev/null", O_RDONLY))
                                                  : ipc::pidfd_open(::getpid());
        tell_started(control, o.sequence, ::getpid(), pidfd.get());
        if (lie == "alive") tell_ended(control, o.sequence, ::getpid());
        ::close(told[1]);
        for (;;) ::pause();
    }
    ::close(told[1]);
    char byte;
    (void)!::read(told[0], &byte, 1);  // its end
    ::close(told[0]);
    if (lie == "alive") tell_ended(control, o.sequence, child);
}

}  // namespace

int main() {
    const char* number = std::getenv(templates::k_control_variable);
    const char* lie = std::getenv("LIAR");
    if (number == nullptr || lie == nullptr) return 2;
    const int control = std::atoi(number);
    ::fcntl(control, F_SETFD, FD_CLOEXEC);
    v1::TemplateMessage ready;
    ready.mutable_ready()->add_entries("any");
    ready.mutable_ready()->add_own_descriptors(control);
    ready.mutable_ready()->set_protocol(lie == std::string("version") ? 2
                                                                      : spawn::k_template_protocol);
    tell(control, ready);
    ipc::receiver receiver;
    for (;;) {
        pollfd p{control, POLLIN, 0};
        ::poll(&p, 1, -1);
        const ipc::received packet = receiver.receive(control);
        if (packet.status == ipc::receive_status::would_block) continue;
        templates::order o{};
        if (packet.status != ipc::receive_status::packet || packet.body.size() != sizeof o)
            return 0;
        std::memcpy(&o, packet.body.data(), sizeof o);
        answer(control, o, lie);
    }
}
