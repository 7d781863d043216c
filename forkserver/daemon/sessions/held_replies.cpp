#include "forkserver/daemon/sessions/held_replies.hpp"

namespace cleanfork::daemon {

void held_replies::hold(child_id child, std::chrono::microseconds longest) {
    holds_.emplace_back(clock::now() + longest, child);
    arm();
}

void held_replies::arm() {
    if (armed_ || holds_.empty()) return;
    armed_ = true;
    timer_.expires_at(holds_.front().first);
    timer_.async_wait([this](boost::system::error_code ec) {
        armed_ = false;
        if (!ec) expire();
    });
}

void held_replies::expire() {
    const auto now = clock::now();
    while (!holds_.empty()) {
        const auto [until, child] = holds_.front();
        const bool held = owner_.is_held(child);
        if (held && until > now) break;
        holds_.pop_front();
        if (held) owner_.on_held_long_enough(child);
    }
    arm();
}

}  // namespace cleanfork::daemon
