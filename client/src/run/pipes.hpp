// The caller's ends of a child's pipes, fed and emptied without ever blocking.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "client/src/connection/blocking.hpp"
#include "client/src/connection/outgoing.hpp"

namespace cleanfork::detail {

// write(2), but a closed pipe is EPIPE and nothing else: SIGPIPE neither ends
// the program nor reaches its handler, and its disposition stays as it is.
ssize_t write_without_sigpipe(int fd, const char* data, std::size_t size) noexcept;

// The child's standard streams seen from outside. Not thread-safe.
class pipes final : public served_descriptors {
public:
    // Takes the three streams, and leaves `ends.result`. Sets the descriptors
    // non-blocking: the child's ends are files of their own. `input` is borrowed.
    // A terminal is read as standard output, unless that is a pipe; its input is at the end.
    pipes(parent_ends&& ends, std::string_view input);

    [[nodiscard]] int in() const noexcept { return ends_.in.get(); }
    [[nodiscard]] int out() const noexcept { return ends_.out.get(); }
    [[nodiscard]] int err() const noexcept { return ends_.err.get(); }

    // Does what can be done at once with the stream; closes it at its end.
    void feed();
    void read_out() { read(ends_.out, out_text); }
    void read_err() { read(ends_.err, err_text); }
    // The child has ended: takes what is there, and closes all.
    void finish();

    std::span<pollfd> wanted() override;
    void serve() override;

    std::string out_text, err_text;

private:
    static void read(unique_fd& fd, std::string& into);

    parent_ends ends_;
    // A terminal that only we have open is not at its end: the child may open /dev/tty.
    unique_fd terminal_;
    std::string_view input_;
    std::array<pollfd, 3> polled_{};
    std::size_t polled_count_ = 0;
};

}  // namespace cleanfork::detail
