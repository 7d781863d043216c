// Carries bytes between our standard input and output and the master of a pty.
//
// Each way has one buffer: nothing more is read before it was written, so a slow
// reader slows the child down, as a terminal does.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <string>

#include "client/cli/foreground/pty.hpp"
#include "client/cli/foreground/readiness.hpp"
#include "client/cli/foreground/typed_input.hpp"

namespace cleanfork::cli {

class pty_relay {
public:
    struct events {
        std::function<void()> drained;      // after child_ended(): all output was written
        std::function<void()> output_lost;  // nobody reads our standard output any more
    };

    pty_relay(boost::asio::io_context& io, pty_pair pty, events e);

    // The child's end, borrowed: its 0, 1 and 2.
    [[nodiscard]] int slave() const noexcept { return slave_.get(); }

    void start();
    // Writes what the child has left behind, then calls drained().
    void child_ended();
    // The terminal we are at has a new size.
    void resize();

private:
    void read_input();
    void input_ended();
    void look_at_modes();
    void write_to_child(std::string bytes, std::function<void()> then);
    void read_output();
    void write_output();
    void finish();

    boost::asio::posix::stream_descriptor master_;
    // Open until the child has ended: output of the time when the child itself has no
    // terminal open, between two programs, must not look like the end.
    unique_fd slave_;
    events events_;
    readiness input_ready_, output_ready_;
    std::string input_;
    // Keys pass as they were typed; the bytes of a file or pipe are typed for the reader to get.
    const bool from_terminal_;
    typed_input typed_;
    boost::asio::steady_timer look_;
    bool ended_by_lines_ = false;  // how the child read when the end of input was typed
    std::array<char, 4096> output_{};
    std::size_t output_from_ = 0, output_to_ = 0;
    bool ended_ = false;        // child_ended() was called
    bool finished_ = false;     // the terminal has nothing more to say
    bool waiting_ = false;      // for output of the child
    bool output_lost_ = false;  // what comes is thrown away
};

}  // namespace cleanfork::cli
