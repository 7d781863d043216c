// A thread that blocks until the connection has something for it.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <condition_variable>
#include <utility>

#include "client/src/connection/deadline.hpp"
#include "client/src/connection/guarded.hpp"

namespace cleanfork::detail {

struct connection_tables;
// Shows that the lock of a connection is held.
using tables_lock = locked<connection_tables>;

// Lives on the waiting thread's stack, and is touched with the connection's lock held
// alone: once that is free, the waiter may be gone.
class waiter {
public:
    // What it waits for has come.
    [[nodiscard]] bool ready(const tables_lock&) const noexcept { return ready_; }
    void set_ready(const tables_lock& held) noexcept;

    // The reader's role is passed to it; it takes it at most once.
    void promote(const tables_lock& held) noexcept;
    [[nodiscard]] bool promoted(const tables_lock&) const noexcept { return promoted_; }
    [[nodiscard]] bool take_promotion(const tables_lock&) noexcept {
        return std::exchange(promoted_, false);
    }

    // For its own thread: sleeps until it is ready or promoted; false at the deadline.
    bool sleep(tables_lock& held, const deadline& d);
    // The same for a thread that polls other descriptors too: becomes readable when
    // sleep() would return. It is one from then on; -1 without descriptors (EMFILE).
    int event(const tables_lock& held);
    void clear_event(const tables_lock& held) noexcept;
    [[nodiscard]] bool has_event(const tables_lock&) const noexcept {
        return static_cast<bool>(event_);
    }

private:
    void wake() noexcept;

    std::condition_variable changed_;
    unique_fd event_;
    bool ready_ = false;
    bool promoted_ = false;
};

}  // namespace cleanfork::detail
