#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <cerrno>
#include <cleanfork/pseudo_terminal.hpp>

namespace cleanfork {

namespace {

failure failed(const char* what) {
    const int error = errno;
    return {step::request, error, what, "no new pseudo terminal could be made"};
}

}  // namespace

result<pty_pair> open_pty(const stdio::pty& settings) {
    pty_pair pty;
    pty.master.reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!pty.master) return failed("posix_openpt");
    if (::unlockpt(pty.master.get()) != 0) return failed("unlockpt");
    // By ioctl instead of by name, which may mean another /dev/pts in a container.
    pty.child_end.reset(::ioctl(pty.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!pty.child_end) return failed("TIOCGPTPEER");

    if (settings.raw || !settings.echo) {
        termios modes{};
        if (::tcgetattr(pty.child_end.get(), &modes) != 0) return failed("tcgetattr");
        if (settings.raw) ::cfmakeraw(&modes);
        modes.c_lflag &= ~static_cast<tcflag_t>(ECHO);
        if (::tcsetattr(pty.child_end.get(), TCSANOW, &modes) != 0) return failed("tcsetattr");
    }
    if (auto r = resize_pty(pty.master.get(), settings.rows, settings.columns); !r)
        return r.error();
    return pty;
}

result<void> resize_pty(int master, unsigned short rows, unsigned short columns) {
    const winsize size{rows, columns, 0, 0};
    if (::ioctl(master, TIOCSWINSZ, &size) == 0) return {};
    const int error = errno;
    return failure{step::request, error, "TIOCSWINSZ",
                   error == EBADF || error == ENOTTY ? "it is no terminal's descriptor" : ""};
}

}  // namespace cleanfork
