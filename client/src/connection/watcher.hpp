// Watches the socket on an executor while asynchronous operations are pending.
//
// Not thread-safe: every member is called with the connection's mutex held.
// Lifetime: the descriptor stays the connection's. It is registered with one
// reactor at most, and taken out before it closes: epoll keeps an entry as long
// as any copy of the descriptor is open.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cleanfork/unique_fd.hpp>
#include <memory>
#include <optional>

namespace cleanfork::detail {

class connection;

class watcher {
public:
    explicit watcher(int socket) noexcept : socket_(socket) {}
    ~watcher() { release(); }
    watcher(const watcher&) = delete;
    watcher& operator=(const watcher&) = delete;

    // Has connection::on_readable() called once the socket is readable. The
    // executor is that of the first call since release().
    void arm_read(const std::weak_ptr<connection>& owner, const boost::asio::any_io_executor& io);
    void arm_write(const std::weak_ptr<connection>& owner, const boost::asio::any_io_executor& io);

    [[nodiscard]] bool reading() const noexcept { return reading_; }
    [[nodiscard]] bool writing() const noexcept { return writer_.has_value(); }
    // What on_readable() and abandon() were given must be this to count.
    [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }
    void read_done() noexcept { reading_ = false; }
    void write_done() noexcept;

    // Stops the watching, so that the executor's context may run out of work.
    void cancel_read() noexcept;
    // The same, and leaves the reactor.
    void release() noexcept;

private:
    const int socket_;
    std::optional<boost::asio::posix::stream_descriptor> reader_;
    // A copy of the socket, only while packets wait: a descriptor once watched
    // for writing would wake the executor for every packet the forkserver takes.
    std::optional<boost::asio::posix::stream_descriptor> writer_;
    bool reading_ = false;
    std::uint64_t generation_ = 0;
};

}  // namespace cleanfork::detail
