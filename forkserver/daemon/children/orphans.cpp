#include "forkserver/daemon/children/orphans.hpp"

#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "forkserver/daemon/loop/boundary.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// waitid(P_ALL) walks the list of all children: not at every exit of one.
constexpr std::chrono::milliseconds k_pause{20};

}  // namespace

orphans::orphans(event_loop& io, const spawn::launcher& launcher, child_table& children,
                 const births& begin)
    : io_(io),
      launcher_(launcher),
      children_(children),
      births_(begin),
      signals_(io, "orphans"),
      again_(io, "orphans", [this] { reap_and_await(); }) {}

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
    fd = launcher_.own_descriptor(std::move(fd));
    if (const int e = signals_.take(fd)) return ipc::fail(step::template_start, e, "signalfd");
    await();
    return {};
}

void orphans::await() {
    signals_.await([this] {
        signalfd_siginfo ignored[8];
        while (::read(signals_.fd(), ignored, sizeof ignored) > 0) {
        }
        again_.set_in(k_pause);
    });
}

void orphans::reap_and_await() {
    bool done = true;
    bounded(io_, "orphans", [&] { done = reap(); });
    done ? await() : again_.set_in(k_pause);
}

// Each round reaps one, or is the last: who is known and is not reaped by the table, is reaped
// here.
bool orphans::reap() {
    for (;;) {
        siginfo_t info{};
        if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
            return true;
        const pid_t pid = info.si_pid;
        if (births_.has(pid)) return false;
        child* known = nullptr;
        children_.each([&](child& c) {
            if (c.process.pid() == pid && !c.has_no_process()) known = &c;
        });
        if (known != nullptr) {
            const child_id id = known->id;
            children_.reap(*known);
            const child* left = children_.find(id);
            if (left == nullptr || left->has_no_process()) continue;
        }
        if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG) != 0) return true;
    }
}

}  // namespace cleanfork::daemon
