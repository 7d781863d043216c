// Data that is reached only while its lock is held.
//
// guarded<T> has the lock and the data, as folly::Synchronized and Rust's Mutex do;
// lock() gives the one way to the data. A function that needs the lock takes a
// locked<T>&: without one it cannot be called. locked_by<T, Owner> is for data that
// lives elsewhere and is protected by somebody else's lock, as LockedBy of Rust in Linux.
#pragma once

#include <cassert>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>

namespace cleanfork::detail {

// The lock, held until this goes.
template <class T>
class locked {
public:
    locked(std::mutex& m, T& value) : lock_(m), value_(&value) {}

    T* operator->() const noexcept {
        assert(lock_.owns_lock());
        return value_;
    }
    T& operator*() const noexcept { return *operator->(); }

    // Runs `f` without the lock, which is held again afterwards.
    template <class F>
    decltype(auto) unlocked(F&& f) {
        struct relock {
            std::unique_lock<std::mutex>& lock;
            explicit relock(std::unique_lock<std::mutex>& l) : lock(l) { lock.unlock(); }
            relock(const relock&) = delete;
            relock& operator=(const relock&) = delete;
            ~relock() { lock.lock(); }
        } const open(lock_);
        return std::forward<F>(f)();
    }

    // Waits without the lock until `done`, which is asked with it.
    template <class Done>
    void wait(std::condition_variable& changed, Done done) {
        changed.wait(lock_, std::move(done));
    }
    // The same until `end`; false when it passed first.
    template <class Done>
    bool wait_until(std::condition_variable& changed, std::chrono::steady_clock::time_point end,
                    Done done) {
        return changed.wait_until(lock_, end, std::move(done));
    }

private:
    std::unique_lock<std::mutex> lock_;
    T* value_;
};

template <class T>
class guarded {
public:
    template <class... Args>
    explicit guarded(Args&&... args) : value_(std::forward<Args>(args)...) {}

    [[nodiscard]] locked<T> lock() { return {mutex_, value_}; }

private:
    std::mutex mutex_;
    T value_;
};

// That the lock is the right one of several of its kind is not checked. Whoever destroys
// it is the last to have it, and needs no lock.
template <class T, class Owner>
class locked_by {
public:
    T& operator()(const locked<Owner>& held) noexcept {
        (void)*held;  // asserts that it is held now
        return value_;
    }

private:
    T value_;
};

}  // namespace cleanfork::detail
