// A thread that blocks until the connection has something for it.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <condition_variable>

namespace cleanfork::detail {

// Lives on the waiting thread's stack; every member is protected by the
// connection's mutex, and wake() is called with it held, since the waiter may
// be gone as soon as the mutex is free.
struct waiter {
    std::condition_variable changed;
    unique_fd event;        // for a thread that polls other descriptors as well
    bool ready = false;     // what it waits for has come
    bool promoted = false;  // the reader's role was passed to it

    void wake() noexcept;
    void set_ready() noexcept {
        ready = true;
        wake();
    }
};

}  // namespace cleanfork::detail
