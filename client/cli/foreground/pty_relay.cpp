#include "client/cli/foreground/pty_relay.hpp"

#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>

#include "ipc/base/sys.hpp"

namespace cleanfork::cli {

namespace {

// How long a program that changes to another way of reading may wait for its end of input.
constexpr std::chrono::milliseconds k_look_at_modes(100);

ssize_t read_some(int fd, char* into, std::size_t size) noexcept {
    return ipc::retry([&] { return ::read(fd, into, size); });
}

}  // namespace

pty_relay::pty_relay(boost::asio::io_context& io, pty_pair pty, events e)
    : master_(io, pty.master.release()),
      slave_(std::move(pty.slave)),
      events_(std::move(e)),
      input_ready_(io, STDIN_FILENO, readiness::direction::read),
      output_ready_(io, STDOUT_FILENO, readiness::direction::write),
      from_terminal_(::isatty(STDIN_FILENO) != 0),
      look_(io) {
    master_.native_non_blocking(true);
}

void pty_relay::start() {
    read_input();
    read_output();
}

void pty_relay::resize() {
    if (const auto size = outer_window_size()) ::ioctl(master_.native_handle(), TIOCSWINSZ, &*size);
}

void pty_relay::read_input() {
    input_ready_.async_wait([this] {
        if (ended_) return;
        std::string bytes(4096, '\0');
        const ssize_t n = read_some(STDIN_FILENO, bytes.data(), bytes.size());
        // EAGAIN: another process has set O_NONBLOCK and was faster.
        if (n < 0 && errno == EAGAIN) return read_input();
        if (n <= 0) return input_ended();
        bytes.resize(static_cast<std::size_t>(n));
        termios modes{};
        if (!from_terminal_ && ::tcgetattr(master_.native_handle(), &modes) == 0)
            bytes = typed_.type(bytes, modes);
        write_to_child(std::move(bytes), [this] {
            if (!ended_) read_input();
        });
    });
}

void pty_relay::input_ended() {
    termios modes{};
    if (ended_ || ::tcgetattr(master_.native_handle(), &modes) != 0) return;
    ended_by_lines_ = (modes.c_lflag & ICANON) != 0;
    write_to_child(typed_.end(modes), [this] { look_at_modes(); });
}

// What means the end to a reader of lines means nothing to a reader of keys, and the reverse: a
// shell changes between the two. Nothing tells of that change, so it is looked for.
void pty_relay::look_at_modes() {
    if (ended_) return;
    look_.expires_after(k_look_at_modes);
    look_.async_wait([this](const boost::system::error_code& ec) {
        termios modes{};
        if (ec || ended_ || finished_ || ::tcgetattr(master_.native_handle(), &modes) != 0) return;
        if (ended_by_lines_ != ((modes.c_lflag & ICANON) != 0)) return input_ended();
        look_at_modes();
    });
}

void pty_relay::write_to_child(std::string bytes, std::function<void()> then) {
    input_ = std::move(bytes);
    boost::asio::async_write(
        master_, boost::asio::buffer(input_),
        [then = std::move(then)](const boost::system::error_code& ec, std::size_t) {
            if (!ec) then();
        });
}

void pty_relay::read_output() {
    waiting_ = true;
    master_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                       [this](const boost::system::error_code& ec) {
                           waiting_ = false;
                           if (ec && !ended_) return;
                           write_output();
                       });
}

void pty_relay::write_output() {
    if (output_from_ == output_to_) {
        const ssize_t n = read_some(master_.native_handle(), output_.data(), output_.size());
        // After the end, read(2) has first moved all that was on its way to us,
        // so EAGAIN then means: a descendant has the terminal open, and nothing is left.
        if (n < 0 && errno == EAGAIN && !ended_) return read_output();
        if (n <= 0) return finish();
        output_from_ = 0;
        output_to_ = static_cast<std::size_t>(n);
    }
    output_ready_.async_wait([this] {
        // PIPE_BUF at most: a pipe that is ready takes so much without blocking.
        const std::size_t size = output_to_ - output_from_;
        const ssize_t n = output_lost_
                              ? static_cast<ssize_t>(size)
                              : ::write(STDOUT_FILENO, output_.data() + output_from_, size);
        if (n >= 0) {
            output_from_ += static_cast<std::size_t>(n);
        } else if (errno != EINTR && errno != EAGAIN) {
            output_lost_ = true;
            output_from_ = output_to_;
            events_.output_lost();
        }
        write_output();
    });
}

void pty_relay::child_ended() {
    ended_ = true;
    slave_.reset();
    input_ready_.cancel();
    look_.cancel();
    if (finished_) return events_.drained();
    if (!waiting_) return;  // write_output() is under way and comes to the end
    boost::system::error_code ignored;
    master_.cancel(ignored);
}

// The end of the session's leader hangs the terminal up: this can come before child_ended().
void pty_relay::finish() {
    finished_ = true;
    boost::system::error_code ignored;
    master_.close(ignored);
    if (ended_) events_.drained();
}

}  // namespace cleanfork::cli
