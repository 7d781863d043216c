#include "forkserver/daemon/sessions/held_replies.hpp"

namespace cleanfork::daemon {

void held_replies::hold(child_id child, std::chrono::microseconds longest) {
    holds_.emplace_back(clock::now() + longest, child);
    arm();
}

void held_replies::arm() {
    if (!holds_.empty()) alarm_.set(holds_.front().first);
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
