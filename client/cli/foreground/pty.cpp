#include "client/cli/foreground/pty.hpp"

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
    // 0 x 0, of a terminal whose size nobody knows.
    auto pty = cleanfork::open_pty({.rows = 0, .columns = 0, .echo = false});
    if (!pty) return bad_value{"no new terminal: " + pty.error().message()};
    termios modes{};
    if (like != nullptr) {
        modes = *like;
    } else {
        if (::tcgetattr(pty->child_end.get(), &modes) != 0) return failed("tcgetattr");
        // Linux 6.0 and later looks ahead for Ctrl-S and Ctrl-Q, quoted or not (lookahead_buf).
        modes.c_iflag &= ~static_cast<tcflag_t>(IXON);
    }
    if (::tcsetattr(pty->child_end.get(), TCSANOW, &modes) != 0) return failed("tcsetattr");
    if (const auto size = outer_window_size()) ::ioctl(pty->master.get(), TIOCSWINSZ, &*size);
    return std::move(*pty);
}

std::optional<winsize> outer_window_size() noexcept {
    winsize size{};
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::ioctl(fd, TIOCGWINSZ, &size) == 0) return size;
    return {};
}

}  // namespace cleanfork::cli
