// A descriptor that the loop waits for.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cleanfork/unique_fd.hpp>
#include <memory>
#include <utility>

#include "forkserver/daemon/loop/boundary.hpp"

namespace cleanfork::daemon {

// Calls what waits inside the boundary of the loop. A wait that the kernel refuses (ENOMEM) is
// tried again after a pause: nobody goes deaf of that.
class watched_fd {
public:
    // `place` names what is called, in the log.
    watched_fd(boost::asio::io_context& io, const char* place)
        : io_(io), place_(place), descriptor_(io), pause_(io) {}
    watched_fd(const watched_fd&) = delete;
    watched_fd& operator=(const watched_fd&) = delete;
    ~watched_fd() = default;

    // Takes `fd`. Fails with errno (ENOSPC and ENOMEM of epoll), and `fd` stays where it is.
    int take(unique_fd& fd);
    [[nodiscard]] bool is_open() const noexcept { return descriptor_.is_open(); }
    // Borrowed; -1 when there is none.
    [[nodiscard]] int fd() noexcept {
        return descriptor_.is_open() ? descriptor_.native_handle() : -1;
    }
    // What waits is not called any more.
    void close() noexcept { release(); }
    // The same, and the descriptor is the caller's.
    unique_fd release() noexcept;

    enum class to { read, write };
    // Calls `then` once; never after the end of this object, or after close().
    template <class F>
    void await(to what, F then);
    template <class F>
    void await(F then) {
        await(to::read, std::move(then));
    }

private:
    static constexpr std::chrono::milliseconds k_pause{20};

    template <class F>
    void await_later(to what, F then);

    boost::asio::io_context& io_;
    const char* const place_;
    boost::asio::posix::stream_descriptor descriptor_;
    boost::asio::steady_timer pause_;
    // Handlers may run after this object is gone, or was closed.
    std::shared_ptr<char> here_ = std::make_shared<char>();
};

template <class F>
void watched_fd::await(to what, F then) {
    using wait = boost::asio::posix::descriptor_base;
    const auto which = what == to::read ? wait::wait_read : wait::wait_write;
    insist(io_, place_, [&] {
        descriptor_.async_wait(which, [this, what, then, here = std::weak_ptr<char>(here_)](
                                          const boost::system::error_code& ec) {
            if (ec == boost::asio::error::operation_aborted || here.expired()) return;
            if (ec) return await_later(what, then);
            bounded(io_, place_, then);
        });
    });
}

template <class F>
void watched_fd::await_later(to what, F then) {
    insist(io_, place_, [&] {
        pause_.expires_after(k_pause);
        pause_.async_wait([this, what, then,
                           here = std::weak_ptr<char>(here_)](const boost::system::error_code& ec) {
            if (!ec && !here.expired()) await(what, then);
        });
    });
}

}  // namespace cleanfork::daemon
