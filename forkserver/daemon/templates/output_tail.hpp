// The last words of a template: the end of its standard output and error.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cleanfork/unique_fd.hpp>
#include <memory>
#include <string>

namespace cleanfork::daemon {

class output_tail {
public:
    // The reading end of a pipe, non-blocking; none: there is no output.
    output_tail(boost::asio::io_context& io, unique_fd pipe);

    // Reads what has come. False at the end of the output.
    bool drain();
    // The last 4 KiB of what was read.
    [[nodiscard]] const std::string& text() const noexcept { return text_; }

private:
    void await();

    boost::asio::posix::stream_descriptor pipe_;
    std::string text_;
    // Handlers may run after this object is gone.
    std::shared_ptr<char> here_ = std::make_shared<char>();
};

}  // namespace cleanfork::daemon
