#include <sys/wait.h>

#include <cleanfork/exit_status.hpp>
#include <csignal>
#include <cstring>

namespace cleanfork {

namespace {

// "SIGTERM"; the real-time ones have no name of their own in the C library.
std::string signal_name(int number) {
    if (const char* name = ::sigabbrev_np(number)) return std::string("SIG") + name;
    if (number >= SIGRTMIN && number <= SIGRTMAX)
        return number == SIGRTMIN ? "SIGRTMIN" : "SIGRTMIN+" + std::to_string(number - SIGRTMIN);
    return "signal " + std::to_string(number);
}

}  // namespace

exit_status exit_status::exited(int code) {
    exit_status s;
    s.how_ = kind::exited;
    s.number_ = code;
    return s;
}

exit_status exit_status::signaled(int signal, bool core_dumped) {
    exit_status s;
    s.how_ = kind::signaled;
    s.number_ = signal;
    s.core_dumped_ = core_dumped;
    return s;
}

exit_status exit_status::unknown(std::string why) {
    exit_status s;
    s.why_ = std::move(why);
    return s;
}

exit_status exit_status::from_wait_status(int status) {
    if (WIFEXITED(status)) return exited(WEXITSTATUS(status));
    if (WIFSIGNALED(status)) return signaled(WTERMSIG(status), WCOREDUMP(status));
    return unknown("wait status " + std::to_string(status) + " is no end");
}

int exit_status::shell_code() const noexcept {
    if (is_exited()) return number_;
    return is_signaled() ? 128 + number_ : 125;
}

std::string exit_status::to_string() const {
    switch (how_) {
        case kind::exited: return "exited " + std::to_string(number_);
        case kind::signaled:
            return "killed by " + signal_name(number_) + (core_dumped_ ? " (core dumped)" : "");
        case kind::unknown: break;
    }
    return why_.empty() ? "unknown" : "unknown: " + why_;
}

}  // namespace cleanfork
