#include "forkserver/daemon/sessions/spawn_queue.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>

#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

bool is_late(const queued_spawn& q) {
    if (!q.request->has_queue_timeout_ns()) return false;
    return ipc::monotonic_ns() - q.received_ns >= q.request->queue_timeout_ns();
}

failure late_failure() {
    return ipc::fail(step::queue, ETIMEDOUT, {}, "its deadline passed before its turn came");
}

// What throws leaves no turn without a spawn, and no spawn without a turn.
void spawn_queue::push(queued_spawn s) {
    const auto [at, is_new] = lanes_.try_emplace(s.session);
    try {
        if (is_new) turns_.push_back(s.session);
        at->second.push_back(std::move(s));
    } catch (...) {
        if (is_new) drop_lane(at);
        throw;
    }
    ++size_;
}

std::optional<queued_spawn> spawn_queue::pop() {
    if (turns_.empty()) return std::nullopt;
    const auto at = lanes_.find(turns_.front());
    assert(at != lanes_.end() && !at->second.empty());
    queued_spawn s = std::move(at->second.front());
    at->second.pop_front();
    --size_;
    if (at->second.empty())
        drop_lane(at);
    else
        turns_.splice(turns_.end(), turns_, turns_.begin());
    return s;
}

std::vector<queued_spawn> spawn_queue::remove(session_id session, request_id request) {
    std::vector<queued_spawn> taken;
    const auto at = lanes_.find(session);
    if (at == lanes_.end()) return taken;
    const auto is_meant = [request](const queued_spawn& s) { return s.request_id == request; };
    std::deque<queued_spawn>& lane = at->second;
    taken.reserve(static_cast<std::size_t>(std::count_if(lane.begin(), lane.end(), is_meant)));
    for (queued_spawn& s : lane)
        if (is_meant(s)) taken.push_back(std::move(s));
    std::erase_if(lane, is_meant);
    size_ -= taken.size();
    if (at->second.empty()) drop_lane(at);
    return taken;
}

void spawn_queue::remove_session(session_id session) {
    const auto at = lanes_.find(session);
    if (at == lanes_.end()) return;
    size_ -= at->second.size();
    drop_lane(at);
}

void spawn_queue::drop_lane(lanes::iterator at) {
    std::erase(turns_, at->first);
    lanes_.erase(at);
}

}  // namespace cleanfork::daemon
