#include "forkserver/daemon/loop/watched_fd.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::uint32_t k_end = EPOLLERR | EPOLLHUP;  // always told

}  // namespace

int watched_fd::take(unique_fd& fd) {
    const std::uint64_t key = loop_.next_key_++;
    loop_.watched_.emplace(key, this);
    if (const int e = loop_.set(fd.get(), key, 0, EPOLLIN)) {
        loop_.watched_.erase(key);
        return e;
    }
    key_ = key;
    armed_ = EPOLLIN;
    fd_ = std::move(fd);
    return 0;
}

unique_fd watched_fd::release() noexcept {
    if (!fd_) return {};
    here_ = nullptr;
    loop_.watched_.erase(key_);
    if (armed_ != 0) (void)loop_.set(fd_.get(), key_, armed_, 0);
    armed_ = 0;
    again_.cancel();
    // The last to go: they may be what keeps the owner of this object.
    const auto reads = std::exchange(reads_, nullptr), writes = std::exchange(writes_, nullptr);
    loop_.awaited_ -= (reads ? 1U : 0U) + (writes ? 1U : 0U);
    return std::move(fd_);
}

void watched_fd::set_handler(to what, std::function<void()> then) noexcept {
    std::function<void()>& mine = what == to::read ? reads_ : writes_;
    if (!mine) ++loop_.awaited_;
    mine = std::move(then);
    if ((wanted() & ~armed_) != 0 && !again_.is_set()) arm();
}

std::uint32_t watched_fd::wanted() const noexcept {
    return (reads_ ? std::uint32_t{EPOLLIN} : 0U) | (writes_ ? std::uint32_t{EPOLLOUT} : 0U);
}

// What is not wanted now mostly is in a moment: it stays armed until it comes in vain.
void watched_fd::arm() noexcept {
    const std::uint32_t now = armed_ | wanted();
    if (now == armed_) return;
    if (loop_.set(fd_.get(), key_, armed_, now) == 0)
        armed_ = now;
    else
        bounded(loop_, place_, [this] { again_.set_in(k_pause); });
}

void watched_fd::disarm() noexcept {
    const std::uint32_t now = wanted();
    if (loop_.set(fd_.get(), key_, armed_, now) == 0) armed_ = now;
}

void watched_fd::on_events(std::uint32_t events) noexcept {
    const bool end = (events & k_end) != 0;
    const bool reads = reads_ && (end || (events & EPOLLIN) != 0);
    const bool writes = writes_ && (end || (events & EPOLLOUT) != 0);
    // Level-triggered: what nobody takes would come without end.
    if (((events & EPOLLIN) != 0 && !reads) || ((events & EPOLLOUT) != 0 && !writes) ||
        (end && !reads && !writes))
        disarm();
    const std::weak_ptr<char> here = here_;
    if (reads) {
        reads_in_a_row_ = last_read_ + 1 == loop_.rounds() ? reads_in_a_row_ + 1 : 1;
        last_read_ = loop_.rounds();
        call(reads_);
    }
    if (writes && !here.expired() && writes_) call(writes_);
}

void watched_fd::call(std::function<void()>& then) noexcept {
    const std::function<void()> mine = std::exchange(then, nullptr);
    --loop_.awaited_;
    loop_.turn(place_, mine);
}

}  // namespace cleanfork::daemon
