#include "forkserver/template/fork_threads.hpp"

#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cleanfork/unique_fd.hpp>
#include <csignal>
#include <ctime>
#include <stdexcept>

#include "forkserver/template/host.hpp"
#include "ipc/audit/threads.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::templates {

namespace {

// For what threads do when they have been told to end, or end by themselves: pauses, not a time,
// since a machine that stood still has let nobody end.
constexpr int k_most_pauses = 500;
constexpr timespec k_pause{0, 1'000'000};
// For a child to come out of the handlers of the libraries.
constexpr int k_most_in_handlers_ms = 5'000;

// Of the thread that forks; there is one judged fork at a time.
bool judging = false;
std::size_t left_threads = 0;
char left_names[256];

// Handlers run in the reverse order of their registration: this one, registered before any
// library is loaded at run time, runs when theirs have ended their threads.
void look_in_the_midst() {
    if (judging) left_threads = ipc::hazardous_threads(left_names, sizeof left_names).value_or(0);
}
const int registered = ::pthread_atfork(&look_in_the_midst, nullptr, nullptr);

// The child of a rehearsal is nobody's: no handler of the program hears of its end.
class quiet_children {
public:
    quiet_children() noexcept {
        sigemptyset(&set_);
        sigaddset(&set_, SIGCHLD);
        ::pthread_sigmask(SIG_BLOCK, &set_, &before_);
    }
    quiet_children(const quiet_children&) = delete;
    quiet_children& operator=(const quiet_children&) = delete;
    ~quiet_children() {
        const timespec at_once{};
        while (::sigtimedwait(&set_, nullptr, &at_once) > 0) {
        }
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    sigset_t set_{}, before_{};
};

// False when it had to be killed.
bool ends_by_itself(pid_t pid) {
    const unique_fd pidfd = ipc::pidfd_open(pid);
    pollfd p{pidfd.get(), POLLIN, 0};
    const bool ended =
        !pidfd || ipc::retry([&] { return ::poll(&p, 1, k_most_in_handlers_ms); }) == 1;
    if (!ended) ::kill(pid, SIGKILL);
    ipc::retry([&] { return ::waitpid(pid, nullptr, 0); });
    return ended;
}

}  // namespace

judged_fork::judged_fork() noexcept {
    left_threads = 0;
    judging = registered == 0;
}

judged_fork::~judged_fork() { judging = false; }

pid_t judged_fork::fork() noexcept {
    const pid_t pid = ::fork();
    clean_ = registered == 0 && left_threads == 0;
    return pid;
}

std::string judged_fork::what() const {
    return std::to_string(left_threads) +
           (left_threads == 1 ? " extra thread: " : " extra threads: ") + left_names;
}

bool end_threads(host& h) {
    if (ipc::hazardous_threads().value_or(0) == 0) return false;
    bool clean = false;
    {
        const quiet_children quiet;
        h.before_fork();
        judged_fork tried;
        const pid_t pid = tried.fork();
        if (pid == 0) ::_exit(0);
        h.after_fork();
        if (pid > 0 && !ends_by_itself(pid))
            throw std::runtime_error(
                "a child that was forked to try it did not come out of the at-fork handlers of "
                "the libraries that are loaded: load them in the child");
        clean = pid > 0 && tried.clean();
    }
    for (int n = 0; !clean && n < k_most_pauses && ipc::hazardous_threads() != 0U; ++n)
        h.let_others_run(k_pause);
    return clean;
}

}  // namespace cleanfork::templates
