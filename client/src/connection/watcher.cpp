#include "client/src/connection/watcher.hpp"

#include <fcntl.h>

#include <utility>

#include "client/src/connection/connection.hpp"

namespace cleanfork::detail {

using boost::asio::posix::stream_descriptor;

namespace {

// Destroyed without a call, it is the context that goes, and the operations with it.
struct on_read {
    std::weak_ptr<connection> owner;
    std::uint64_t generation;
    bool uncalled = true;

    on_read(std::weak_ptr<connection> o, std::uint64_t g) : owner(std::move(o)), generation(g) {}
    on_read(on_read&& other) noexcept
        : owner(std::move(other.owner)),
          generation(other.generation),
          uncalled(std::exchange(other.uncalled, false)) {}
    on_read& operator=(on_read&&) = delete;
    ~on_read() {
        if (!uncalled) return;
        if (const auto c = owner.lock()) c->abandon(generation);
    }

    void operator()(const boost::system::error_code& ec) {
        uncalled = false;
        if (ec == boost::asio::error::operation_aborted) return;
        if (const auto c = owner.lock()) c->on_readable(generation);
    }
};

}  // namespace

void watcher::arm_read(const std::weak_ptr<connection>& owner,
                       const boost::asio::any_io_executor& io) {
    if (!reader_) reader_.emplace(io, socket_);
    reading_ = true;
    ++generation_;
    reader_->async_wait(stream_descriptor::wait_read, on_read(owner, generation_));
}

void watcher::arm_write(const std::weak_ptr<connection>& owner,
                        const boost::asio::any_io_executor& io) {
    const int copy = ::fcntl(socket_, F_DUPFD_CLOEXEC, 3);
    // Out of descriptors: what waits goes out before the next request.
    if (copy < 0) return;
    writer_.emplace(io, copy);
    writer_->async_wait(stream_descriptor::wait_write,
                        [owner](const boost::system::error_code& ec) {
                            if (ec == boost::asio::error::operation_aborted) return;
                            if (const auto c = owner.lock()) c->on_writable();
                        });
}

void watcher::write_done() noexcept { writer_.reset(); }

void watcher::cancel_read() noexcept {
    if (!reading_) return;
    reading_ = false;
    ++generation_;
    boost::system::error_code ignored;
    reader_->cancel(ignored);
}

void watcher::release() noexcept {
    cancel_read();
    if (reader_) (void)reader_->release();  // the connection closes it
    reader_.reset();
    writer_.reset();
}

}  // namespace cleanfork::detail
