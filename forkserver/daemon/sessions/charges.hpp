// What a session uses, and its user in all sessions, counted by the objects that use it.
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
    std::size_t memory = 0;       // about what its requests and bases take here

    amounts& operator+=(const amounts& a) noexcept;
    amounts& operator-=(const amounts& a) noexcept;  // at most what is there
};

// Of one session; what is counted in it is counted in its user's as well.
struct account : amounts {
    account() = default;
    explicit account(std::shared_ptr<amounts> user) : of_user(std::move(user)) {}
    void add(const amounts& a) noexcept {
        *this += a;
        if (of_user) *of_user += a;
    }
    void give_back(const amounts& a) noexcept {
        *this -= a;
        if (of_user) *of_user -= a;
    }
    const std::shared_ptr<amounts> of_user;
};

// A part of an account, given back when this is destroyed. It outlives its session
// without harm.
class charge {
public:
    charge() = default;
    charge(std::shared_ptr<account> whose, const amounts& what) noexcept
        : account_(std::move(whose)), what_(what) {
        if (account_) account_->add(what_);
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
        account_->add(more);
        what_ += more;
    }
    void give_back() noexcept {
        if (account_) account_->give_back(what_);
        account_.reset();
    }

private:
    std::shared_ptr<account> account_;
    amounts what_;
};

}  // namespace cleanfork::daemon
