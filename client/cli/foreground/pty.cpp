#include "client/cli/foreground/pty.hpp"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace cleanfork::cli {

namespace {

bad_value failed(const char* what) {
    return {std::string("no new terminal: ") + what + ": " + std::strerror(errno)};
}

}  // namespace

parsed<pty_pair> open_pty(const termios* like) {
    pty_pair pty;
    pty.master.reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    if (!pty.master) return failed("posix_openpt");
    if (::unlockpt(pty.master.get()) != 0) return failed("unlockpt");
    // By ioctl instead of by name, which may mean another /dev/pts in a container.
    pty.slave.reset(::ioctl(pty.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!pty.slave) return failed("TIOCGPTPEER");

    termios modes{};
    if (like != nullptr) {
        modes = *like;
    } else {
        if (::tcgetattr(pty.slave.get(), &modes) != 0) return failed("tcgetattr");
        modes.c_lflag &= ~static_cast<tcflag_t>(ECHO);
        // Linux 6.0 and later looks ahead for Ctrl-S and Ctrl-Q, quoted or not (lookahead_buf).
        modes.c_iflag &= ~static_cast<tcflag_t>(IXON);
    }
    if (::tcsetattr(pty.slave.get(), TCSANOW, &modes) != 0) return failed("tcsetattr");
    if (const auto size = outer_window_size()) ::ioctl(pty.master.get(), TIOCSWINSZ, &*size);
    return pty;
}

std::optional<winsize> outer_window_size() noexcept {
    winsize size{};
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::ioctl(fd, TIOCGWINSZ, &size) == 0) return size;
    return {};
}

}  // namespace cleanfork::cli
