#include "client/cli/foreground/pty.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace cleanfork::cli {

parsed<pty_pair> open_pty(const termios* like) {
    // 0 x 0, of a terminal whose size nobody knows.
    auto pty = cleanfork::open_pty({.rows = 0, .columns = 0, .echo = false});
    if (!pty) return bad_value{"no new terminal: " + pty.error().message()};
    if (like != nullptr && ::tcsetattr(pty->child_end.get(), TCSANOW, like) != 0)
        return bad_value{std::string("no new terminal: tcsetattr: ") + std::strerror(errno)};
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
