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

void spawn_queue::push(queued_spawn s) {
    std::deque<queued_spawn>& lane = lanes_[s.session];
    if (lane.empty()) turns_.push_back(s.session);
    lane.push_back(std::move(s));
    ++size_;
}

std::optional<queued_spawn> spawn_queue::pop() {
    if (turns_.empty()) return std::nullopt;
    const session_id session = turns_.front();
    turns_.pop_front();
    const auto at = lanes_.find(session);
    assert(at != lanes_.end() && !at->second.empty());
    queued_spawn s = std::move(at->second.front());
    at->second.pop_front();
    --size_;
    if (at->second.empty())
        lanes_.erase(at);
    else
        turns_.push_back(session);
    return s;
}

std::vector<queued_spawn> spawn_queue::remove(session_id session, request_id request) {
    std::vector<queued_spawn> taken;
    const auto at = lanes_.find(session);
    if (at == lanes_.end()) return taken;
    std::deque<queued_spawn> rest;
    for (queued_spawn& s : at->second) {
        if (s.request_id == request)
            taken.push_back(std::move(s));
        else
            rest.push_back(std::move(s));
    }
    size_ -= taken.size();
    at->second = std::move(rest);
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
