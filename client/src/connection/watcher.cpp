#include "client/src/connection/watcher.hpp"

#include <fcntl.h>

#include <boost/asio/prefer.hpp>
#include <cassert>
#include <utility>

namespace cleanfork::detail {

using boost::asio::any_io_executor;
using boost::asio::posix::stream_descriptor;

namespace {

// Destroyed without a call, it is the context that goes, and the operations with it.
struct on_read {
    std::weak_ptr<socket_listener> told;
    std::uint64_t round;
    bool uncalled = true;

    on_read(std::weak_ptr<socket_listener> t, std::uint64_t r) : told(std::move(t)), round(r) {}
    on_read(on_read&& other) noexcept
        : told(std::move(other.told)),
          round(other.round),
          uncalled(std::exchange(other.uncalled, false)) {}
    on_read& operator=(on_read&&) = delete;
    ~on_read() {
        if (!uncalled) return;
        if (const auto t = told.lock()) t->on_context_gone(round);
    }

    void operator()(const boost::system::error_code& ec) {
        uncalled = false;
        if (ec == boost::asio::error::operation_aborted) return;
        if (const auto t = told.lock()) t->on_readable(round);
    }
};

}  // namespace

// A forked copy shares the reactor's epoll with the original: to take a descriptor out there
// would make the original deaf. So it leaves all to the end of the process.
watcher::~watcher() {
    if (owner_.is_this()) {
        release();
        return;
    }
    if (reader_) new stream_descriptor(std::move(*reader_));
    if (writer_) new stream_descriptor(std::move(*writer_));
}

void watcher::add_interest(const any_io_executor& io) {
    ++interest_;
    // An operation's own executor is kept busy by it; ours must not be.
    if (!own_ && !reading_)
        io_ = boost::asio::prefer(io, boost::asio::execution::outstanding_work.untracked);
}

void watcher::drop_interest() noexcept {
    assert(interest_ > 0);
    --interest_;
}

void watcher::update(const std::weak_ptr<socket_listener>& told, needs n) {
    if (interest_ == 0) {
        cancel_read();
        // A borrowed executor's context need not outlive its operations.
        if (!own_) {
            release();
            io_ = {};
        }
        return;
    }
    if (n.read && !reading_) arm_read(told);
    if (n.write && !writer_) arm_write(told);
}

void watcher::arm_read(const std::weak_ptr<socket_listener>& told) {
    if (!reader_) reader_.emplace(io_, socket_);
    reading_ = true;
    ++round_;
    reader_->async_wait(stream_descriptor::wait_read, on_read(told, round_));
}

void watcher::arm_write(const std::weak_ptr<socket_listener>& told) {
    const int copy = ::fcntl(socket_, F_DUPFD_CLOEXEC, 3);
    // Out of descriptors: what waits goes out before the next request.
    if (copy < 0) return;
    writer_.emplace(io_, copy);
    writer_->async_wait(stream_descriptor::wait_write, [told](const boost::system::error_code& ec) {
        if (ec == boost::asio::error::operation_aborted) return;
        if (const auto t = told.lock()) t->on_writable();
    });
}

void watcher::cancel_read() noexcept {
    if (!reading_) return;
    reading_ = false;
    ++round_;
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
