// What stands between a handler and the event loop: an error ends what it was about, no more.
//
// Every handler runs inside bounded(). One that serves a request catches before that, with
// caught(), and tells whoever asked; what nobody has caught is logged with its place.
#pragma once

#include <boost/asio/execution_context.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cleanfork/failure.hpp>
#include <functional>
#include <utility>

#include "forkserver/daemon/log.hpp"

namespace cleanfork::daemon {

// Belongs to the loop: whoever is given an io_context has it. Without a log (in tests of one
// class) it is silent.
class boundary final : public boost::asio::execution_context::service {
public:
    using key_type = boundary;
    static boost::asio::execution_context::id id;
    explicit boundary(boost::asio::execution_context& loop) : service(loop) {}
    boundary(boost::asio::execution_context& loop, logger& log) : service(loop), log_(&log) {}

    // In a catch: what was thrown, which is logged. `place` is the handler's name.
    failure caught(const char* place) noexcept;

private:
    void shutdown() override {}
    logger* log_ = nullptr;
};

failure caught(boost::asio::execution_context& loop, const char* place) noexcept;

template <class F>
void bounded(boost::asio::execution_context& loop, const char* place, F&& f) noexcept {
    try {
        f();
    } catch (...) {
        (void)caught(loop, place);
    }
}

// For what has to be done: a second time when the first one throws.
template <class F>
void insist(boost::asio::execution_context& loop, const char* place, F&& f) {
    try {
        f();
    } catch (...) {
        (void)caught(loop, place);
        f();
    }
}

// f() in a turn of its own, bounded.
template <class F>
void post_bounded(boost::asio::io_context& io, const char* place, F f) {
    insist(io, place, [&] { boost::asio::post(io, [&io, place, f] { bounded(io, place, f); }); });
}

// The loop, until it is stopped or there is nothing to do: not until a handler throws. After each
// turn `after`, if there is any.
void run_bounded(boost::asio::io_context& io, const std::function<void()>& after = {});

}  // namespace cleanfork::daemon
