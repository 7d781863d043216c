// Watches the socket on an executor while asynchronous operations are pending.
//
// Not thread-safe: it is one of the connection's tables, behind their lock.
// Lifetime: the descriptor stays the connection's. It is registered with one
// reactor at most, and taken out before it closes: epoll keeps an entry as long
// as any copy of the descriptor is open.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cleanfork/detail/owning_process.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace cleanfork::detail {

// What the watcher tells, without any lock. `round` counts the watches for reading: news
// of one that was given up meanwhile is out of date (watcher::is_current()).
class socket_listener {
public:
    virtual void on_readable(std::uint64_t round) = 0;
    virtual void on_writable() = 0;
    // The executor's context is being destroyed, and its operations with it.
    virtual void on_context_gone(std::uint64_t round) = 0;

protected:
    ~socket_listener() = default;
};

class watcher {
public:
    // `own`: where to watch; empty: where the operations of the moment are.
    watcher(int socket, boost::asio::any_io_executor own)
        : socket_(socket), own_(std::move(own)), io_(own_) {}
    ~watcher();
    watcher(const watcher&) = delete;
    watcher& operator=(const watcher&) = delete;

    // An asynchronous operation begins, on `io`, or ends. update() is due after both.
    void add_interest(const boost::asio::any_io_executor& io);
    void drop_interest() noexcept;
    // All of them have ended at once.
    void drop_all_interest() noexcept { interest_ = 0; }

    // What there is to watch for, if anybody is interested.
    struct needs {
        bool read;   // no thread reads
        bool write;  // packets wait to be sent
    };
    void update(const std::weak_ptr<socket_listener>& told, needs n);
    // Stops the watching and leaves the reactor.
    void release() noexcept;

    [[nodiscard]] bool is_current(std::uint64_t round) const noexcept { return round == round_; }
    // What was watched for has come.
    void read_done() noexcept { reading_ = false; }
    void write_done() noexcept { writer_.reset(); }

private:
    void arm_read(const std::weak_ptr<socket_listener>& told);
    void arm_write(const std::weak_ptr<socket_listener>& told);
    // Stops the watching, so that the executor's context may run out of work.
    void cancel_read() noexcept;

    const int socket_;
    const owning_process owner_;
    const boost::asio::any_io_executor own_;
    boost::asio::any_io_executor io_;  // of the next watch
    std::size_t interest_ = 0;
    std::optional<boost::asio::posix::stream_descriptor> reader_;
    // A copy of the socket, only while packets wait: a descriptor once watched
    // for writing would wake the executor for every packet the forkserver takes.
    std::optional<boost::asio::posix::stream_descriptor> writer_;
    bool reading_ = false;
    std::uint64_t round_ = 0;
};

}  // namespace cleanfork::detail
