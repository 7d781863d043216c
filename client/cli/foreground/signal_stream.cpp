#include "client/cli/foreground/signal_stream.hpp"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>

#include "ipc/base/sys.hpp"

namespace cleanfork::cli {

void signal_stream::open(const std::vector<int>& numbers) {
    sigset_t set;
    ::sigemptyset(&set);
    for (const int number : numbers) ::sigaddset(&set, number);
    ::sigprocmask(SIG_BLOCK, &set, nullptr);
    const int fd = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) throw std::system_error(errno, std::generic_category(), "signalfd");
    fd_.assign(fd);
}

std::optional<arrived_signal> signal_stream::next() {
    signalfd_siginfo info{};
    const ssize_t size =
        ipc::retry([&] { return ::read(fd_.native_handle(), &info, sizeof info); });
    if (size != sizeof info) return std::nullopt;
    return arrived_signal{static_cast<int>(info.ssi_signo), info.ssi_code > 0};
}

void take_default_action(int number) noexcept {
    struct sigaction usual {};
    usual.sa_handler = SIG_DFL;
    ::sigaction(number, &usual, nullptr);
    sigset_t set, before;
    ::sigemptyset(&set);
    ::sigaddset(&set, number);
    ::raise(number);
    ::sigprocmask(SIG_UNBLOCK, &set, &before);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace cleanfork::cli
