#include "tests/integration/templates/template_tracer.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "ipc/base/sys.hpp"
#include "tests/integration/hostile/hostile_daemon.hpp"

namespace cleanfork::testing {

namespace {

constexpr int k_syscall_stop = SIGTRAP | 0x80;  // with PTRACE_O_TRACESYSGOOD
constexpr char k_traces = 's', k_killed = 'k', k_undisturbed = 'i';

// In the tracing process, which ends with _exit(): its tracees are then let go.
class tracing {
public:
    tracing(pid_t of_template, tracer::victim whom, int at, int reports)
        : template_(of_template), whom_(whom), at_(at), reports_(reports) {
        if (whom == tracer::victim::the_template) victim_ = of_template;
    }

    [[noreturn]] void run() {
        const long options = PTRACE_O_TRACESYSGOOD | (victim_ == 0 ? PTRACE_O_TRACEFORK : 0);
        if (::ptrace(PTRACE_SEIZE, template_, 0, options) != 0) end(static_cast<char>(errno));
        if (victim_ != 0) {
            int status = 0;
            ::ptrace(PTRACE_INTERRUPT, template_, 0, 0);
            ::waitpid(template_, &status, __WALL);
            go_on(template_, 0);
        }
        say(k_traces);
        for (;;) {
            int status = 0;
            const pid_t pid = ipc::retry([&] { return ::waitpid(-1, &status, __WALL); });
            if (pid < 0) end(k_undisturbed);
            if (WIFSTOPPED(status))
                stopped(pid, status);
            else if (pid == victim_)
                end(killed_ ? k_killed : k_undisturbed);
            // A template that ended before it forked: it was not for us to kill.
            else if (pid == template_)
                end(k_undisturbed);
        }
    }

private:
    void say(char what) const { [[maybe_unused]] auto n = ::write(reports_, &what, 1); }
    [[noreturn]] void end(char what) const {
        say(what);
        ::_exit(0);
    }

    void go_on(pid_t pid, int signal) const {
        ::ptrace(pid == victim_ ? PTRACE_SYSCALL : PTRACE_CONT, pid, 0, signal);
    }

    void stopped(pid_t pid, int status) {
        const int event = status >> 16;
        // The first child is the one; those after it are let go.
        if (event == PTRACE_EVENT_STOP && pid != template_ && pid != victim_) {
            if (victim_ != 0) {
                ::ptrace(PTRACE_DETACH, pid, 0, 0);
                return;
            }
            victim_ = pid;
        }
        if (pid != victim_ || WSTOPSIG(status) != k_syscall_stop)
            return go_on(pid, event != 0 ? 0 : WSTOPSIG(status));
        if (++stops_ == at_) {
            killed_ = true;
            ::kill(pid, SIGKILL);
            return;  // and wait for its end: nobody else sees it before
        }
        if (whom_ == tracer::victim::the_template) look();
        go_on(pid, 0);
    }

    // A template that has reaped and waits again is done.
    void look() {
        __ptrace_syscall_info info{};
        ::ptrace(PTRACE_GET_SYSCALL_INFO, victim_, sizeof info, &info);
        if (info.op != PTRACE_SYSCALL_INFO_ENTRY) return;
        bool waits = info.entry.nr == SYS_ppoll;
#ifdef SYS_poll
        waits = waits || info.entry.nr == SYS_poll;
#endif
        if (waits && reaped_) end(k_undisturbed);
        reaped_ = reaped_ || (info.entry.nr == SYS_waitid && info.entry.args[0] == P_PID);
    }

    const pid_t template_;
    pid_t victim_ = 0;
    const tracer::victim whom_;
    const int at_;
    const int reports_;
    int stops_ = 0;
    bool reaped_ = false;
    bool killed_ = false;
};

}  // namespace

tracer::tracer(pid_t of_template, victim whom, int at) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    reports_.reset(ends[0]);
    const unique_fd write_end(ends[1]);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) tracing(of_template, whom, at, write_end.get()).run();
    if (const char first = next(); first != k_traces)
        problem_ = std::string("ptrace is not permitted here: ") + std::strerror(first);
}

tracer::~tracer() {
    ::kill(pid_, SIGKILL);
    ipc::retry([&] { return ::waitpid(pid_, nullptr, 0); });
}

char tracer::next() const {
    pollfd p{reports_.get(), POLLIN, 0};
    REQUIRE(ipc::retry([&] { return ::poll(&p, 1, k_patience_ms); }) == 1);
    char what = 0;
    REQUIRE(ipc::retry([&] { return ::read(reports_.get(), &what, 1); }) == 1);
    return what;
}

bool tracer::killed() { return next() == k_killed; }

}  // namespace cleanfork::testing
