#include "client/src/run/pipes.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <csignal>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::detail {

namespace {

// The default size of a pipe: no read finds more, no write leaves more.
constexpr std::size_t k_chunk = 64 * 1024;

void set_non_blocking(const unique_fd& fd) noexcept {
    if (fd) ipc::set_nonblocking(fd.get());
}

// A terminal has no end of file, only a character that means it at the start of a line.
void end_terminal_input(int master) noexcept {
    termios modes{};
    if (::tcgetattr(master, &modes) != 0 || (modes.c_lflag & ICANON) == 0) return;
    const char end = static_cast<char>(modes.c_cc[VEOF]);
    ipc::retry([&] { return ::write(master, &end, 1); });
}

}  // namespace

ssize_t write_without_sigpipe(int fd, const char* data, std::size_t size) noexcept {
    sigset_t pipe_signal, pending, before;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    sigpending(&pending);
    // One that is pending already is blocked, and not ours to take away.
    const bool ours = sigismember(&pending, SIGPIPE) == 0;
    if (ours) ::pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    const ssize_t n = ipc::retry([&] { return ::write(fd, data, size); });
    const int error = errno;
    if (ours) {
        const timespec now{};
        if (n < 0 && error == EPIPE)
            ipc::retry([&] { return ::sigtimedwait(&pipe_signal, nullptr, &now); });
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    errno = error;
    return n;
}

pipes::pipes(parent_ends&& ends, std::string_view input)
    : ends_{std::move(ends.in), std::move(ends.out), std::move(ends.err), std::move(ends.pty)},
      input_(input) {
    if (ends_.pty) {
        terminal_.reset(::ioctl(ends_.pty.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
        end_terminal_input(ends_.pty.get());
    }
    if (ends_.pty && !ends_.out) ends_.out = std::move(ends_.pty);
    set_non_blocking(ends_.in);
    set_non_blocking(ends_.out);
    set_non_blocking(ends_.err);
    if (input_.empty()) ends_.in.reset();
}

void pipes::feed() {
    while (ends_.in && !input_.empty()) {
        const ssize_t n =
            write_without_sigpipe(ends_.in.get(), input_.data(), std::min(input_.size(), k_chunk));
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) break;  // EPIPE: the child does not want the rest
        input_.remove_prefix(static_cast<std::size_t>(n));
    }
    ends_.in.reset();
}

void pipes::read(unique_fd& fd, std::string& into) {
    char buffer[k_chunk];
    // A writer faster than we are must not keep us from the other streams.
    for (int i = 0; i < 4 && fd; ++i) {
        const ssize_t n = ipc::retry([&] { return ::read(fd.get(), buffer, sizeof buffer); });
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            fd.reset();
            return;
        }
        into.append(buffer, static_cast<std::size_t>(n));
    }
}

void pipes::finish() {
    ends_.in.reset();
    // A descendant that writes on for ever must not hold us: a pipe's content
    // at the end of the child is at most its size, which a program can raise.
    constexpr int k_most_reads = 64;
    for (int i = 0; i < k_most_reads && (ends_.out || ends_.err); ++i) {
        const std::size_t before = out_text.size() + err_text.size();
        read_out();
        read_err();
        if (out_text.size() + err_text.size() == before) break;
    }
    ends_.out.reset();
    ends_.err.reset();
    ends_.pty.reset();
    terminal_.reset();
}

std::span<pollfd> pipes::wanted() {
    polled_count_ = 0;
    const auto want = [&](const unique_fd& fd, short events) {
        if (fd) polled_[polled_count_++] = {fd.get(), events, 0};
    };
    want(ends_.in, POLLOUT);
    want(ends_.out, POLLIN);
    want(ends_.err, POLLIN);
    return {polled_.data(), polled_count_};
}

void pipes::serve() {
    for (const pollfd& p : std::span(polled_.data(), polled_count_)) {
        if (p.revents == 0) continue;
        if (p.fd == in())
            feed();
        else if (p.fd == out())
            read_out();
        else if (p.fd == err())
            read_err();
    }
}

}  // namespace cleanfork::detail
