// The one timer of whoever has deadlines: armed for the earliest that it was asked for.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>

namespace cleanfork::daemon {

class bounded_timer {
public:
    using clock = std::chrono::steady_clock;

    // Calls `ring` inside the boundary of the loop; `place` names it in the log.
    bounded_timer(boost::asio::io_context& io, const char* place, std::function<void()> ring)
        : io_(io), place_(place), ring_(std::move(ring)), timer_(io) {}
    bounded_timer(const bounded_timer&) = delete;
    bounded_timer& operator=(const bounded_timer&) = delete;
    ~bounded_timer() = default;

    // Rings at that time or before: once for all that asked until then.
    void set(clock::time_point at);
    void set_in(clock::duration time) { set(clock::now() + time); }
    // Does not ring any more for those that asked so far.
    void cancel();
    [[nodiscard]] bool is_set() const noexcept { return at_ != clock::time_point::max(); }

private:
    boost::asio::io_context& io_;
    const char* const place_;
    const std::function<void()> ring_;
    boost::asio::steady_timer timer_;
    clock::time_point at_ = clock::time_point::max();
    // Handlers may run after this object is gone.
    std::shared_ptr<char> here_ = std::make_shared<char>();
};

}  // namespace cleanfork::daemon
