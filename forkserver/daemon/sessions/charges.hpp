// What one session uses, counted by the objects that use it.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

namespace cleanfork::daemon {

struct amounts {
    std::size_t spawns = 0;       // queued, or calls that no child runs yet
    std::size_t bytes = 0;        // of their requests
    std::size_t descriptors = 0;  // of their packets
    std::size_t calls = 0;        // those of `spawns` that a template was asked for
    std::size_t children = 0;     // alive, or ended and not yet acknowledged
    std::size_t waits = 0;        // requests to wait without their answer yet

    amounts& operator+=(const amounts& a) noexcept;
    amounts& operator-=(const amounts& a) noexcept;  // at most what is there
};

// A part of an account, given back when this is destroyed. It outlives its session
// without harm.
class charge {
public:
    charge() = default;
    charge(std::shared_ptr<amounts> account, const amounts& what) noexcept
        : account_(std::move(account)), what_(what) {
        if (account_) *account_ += what_;
    }
    charge(charge&& other) noexcept : account_(std::move(other.account_)), what_(other.what_) {}
    charge& operator=(charge&& other) noexcept {
        if (this != &other) {
            give_back();
            account_ = std::move(other.account_);
            what_ = other.what_;
        }
        return *this;
    }
    ~charge() { give_back(); }

    // More of the same account.
    void add(const amounts& more) noexcept {
        if (!account_) return;
        *account_ += more;
        what_ += more;
    }
    void give_back() noexcept {
        if (account_) *account_ -= what_;
        account_.reset();
    }

private:
    std::shared_ptr<amounts> account_;
    amounts what_;
};

}  // namespace cleanfork::daemon
