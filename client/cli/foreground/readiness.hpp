// Waits until a descriptor that other processes share can be read or written.
//
// Asio would set O_NONBLOCK on it, and so on the shell's terminal or on the pipe
// of the next program. Here Asio watches an epoll descriptor of our own instead.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <utility>

namespace cleanfork::cli {

class readiness {
public:
    enum class direction { read, write };

    // `fd` is borrowed and outlives this.
    readiness(boost::asio::io_context& io, int fd, direction d);

    // Calls done() from the io_context; one wait at a time. After cancel() it is not called.
    template <class Done>
    void async_wait(Done done) {
        if (always_) {
            boost::asio::post(epoll_.get_executor(), std::move(done));
            return;
        }
        epoll_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                          [done = std::move(done)](const boost::system::error_code& ec) mutable {
                              if (!ec) done();
                          });
    }

    void cancel() {
        boost::system::error_code ignored;
        epoll_.cancel(ignored);
    }

private:
    boost::asio::posix::stream_descriptor epoll_;
    bool always_ = false;  // files and /dev/null, which epoll does not take
};

}  // namespace cleanfork::cli
