#include "forkserver/daemon/children/orphans.hpp"

#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// waitid(P_ALL) walks the list of all children: not at every exit of one.
constexpr std::chrono::milliseconds k_pause{20};

}  // namespace

orphans::orphans(boost::asio::io_context& io, const spawn::launcher& launcher,
                 child_table& children)
    : launcher_(launcher), children_(children), signals_(io), pause_(io) {}

result<void> orphans::adopt_from_now_on() {
    if (signals_.is_open()) return {};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0)
        return ipc::fail(step::template_start, errno, "sigprocmask");
    unique_fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd) return ipc::fail(step::template_start, errno, "signalfd");
    if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        return ipc::fail(step::template_start, errno, "PR_SET_CHILD_SUBREAPER");
    signals_.assign(launcher_.own_descriptor(std::move(fd)).release());
    await();
    return {};
}

void orphans::await() {
    signals_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                        [this](boost::system::error_code ec) {
                            if (ec) return;
                            signalfd_siginfo ignored[8];
                            while (::read(signals_.native_handle(), ignored, sizeof ignored) > 0) {
                            }
                            pause_.expires_after(k_pause);
                            pause_.async_wait([this](boost::system::error_code late) {
                                if (late) return;
                                reap();
                                await();
                            });
                        });
}

void orphans::reap() {
    for (;;) {
        siginfo_t info{};
        if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
        const pid_t pid = info.si_pid;
        child* known = nullptr;
        children_.each([&](child& c) {
            if (c.process.pid() == pid && !c.has_no_process()) known = &c;
        });
        if (known != nullptr)
            children_.reap(*known);
        else
            ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG);
    }
}

}  // namespace cleanfork::daemon
