// What stands between a handler and the event loop: an error ends what it was about, no more.
//
// Every handler runs inside bounded(). One that serves a request catches before that, with
// caught(), and tells whoever asked; what nobody has caught is logged with its place.
#pragma once

#include <functional>
#include <utility>

#include "forkserver/daemon/loop/event_loop.hpp"

namespace cleanfork::daemon {

inline failure caught(event_loop& loop, const char* place) noexcept { return loop.caught(place); }

template <class F>
void bounded(event_loop& loop, const char* place, F&& f) noexcept {
    try {
        f();
    } catch (...) {
        (void)loop.caught(place);
    }
}

// For what has to be done: a second time when the first one throws.
template <class F>
void insist(event_loop& loop, const char* place, F&& f) {
    try {
        f();
    } catch (...) {
        (void)loop.caught(place);
        f();
    }
}

// f() in a turn of its own, bounded.
template <class F>
void post_bounded(event_loop& loop, const char* place, F f) {
    insist(loop, place, [&] { loop.post(place, f); });
}

}  // namespace cleanfork::daemon
