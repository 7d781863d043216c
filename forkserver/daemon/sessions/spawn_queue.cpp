#include "forkserver/daemon/sessions/spawn_queue.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "ipc/base/sys.hpp"
#include "ipc/wire/defaults.hpp"

namespace cleanfork::daemon {

namespace {

child_lifetime lifetime_of(const v1::SpawnRequest& r) {
    const v1::Lifetime& l = r.lifetime();
    child_lifetime out;
    out.keep = l.keep();
    out.signal = l.signal() != 0 ? l.signal() : ipc::k_default_end_signal;
    out.grace = l.has_grace_ms() ? std::chrono::milliseconds(l.grace_ms()) : ipc::k_default_grace;
    out.target = l.target() == v1::SIGNAL_TARGET_GROUP    ? signal_target::group
                 : l.target() == v1::SIGNAL_TARGET_CGROUP ? signal_target::cgroup
                                                          : signal_target::process;
    return out;
}

}  // namespace

child child_of(const queued_spawn& q) {
    child c;
    c.session = q.session;
    c.lifetime = lifetime_of(*q.request);
    c.leads_group = q.request->process_group() != v1::PROCESS_GROUP_JOIN;
    return c;
}

bool is_late(const queued_spawn& q) {
    const std::uint64_t deadline = q.request->deadline_ns();
    return deadline != 0 && deadline < ipc::monotonic_ns();
}

failure late_failure() {
    return ipc::fail(step::queue, ETIMEDOUT, {}, "its deadline passed before its turn came");
}

void spawn_queue::push(queued_spawn s) {
    lane& l = sessions_[s.session];
    if (l.spawns.empty()) turns_.push_back(s.session);
    ++l.usage.spawns;
    l.usage.bytes += s.bytes;
    l.usage.descriptors += s.descriptors->size();
    l.spawns.push_back(std::move(s));
}

std::optional<queued_spawn> spawn_queue::pop() {
    while (!turns_.empty()) {
        const session_id session = turns_.front();
        turns_.pop_front();
        const auto at = sessions_.find(session);
        if (at == sessions_.end() || at->second.spawns.empty()) continue;
        lane& l = at->second;
        queued_spawn s = std::move(l.spawns.front());
        l.spawns.pop_front();
        --l.usage.spawns;
        l.usage.bytes -= s.bytes;
        l.usage.descriptors -= s.descriptors->size();
        if (l.spawns.empty())
            sessions_.erase(at);
        else
            turns_.push_back(session);
        return s;
    }
    return std::nullopt;
}

std::vector<queued_spawn> spawn_queue::remove(session_id session, request_id request) {
    std::vector<queued_spawn> taken;
    const auto at = sessions_.find(session);
    if (at == sessions_.end()) return taken;
    lane& l = at->second;
    std::deque<queued_spawn> rest;
    for (queued_spawn& s : l.spawns) {
        if (s.request_id != request) {
            rest.push_back(std::move(s));
            continue;
        }
        --l.usage.spawns;
        l.usage.bytes -= s.bytes;
        l.usage.descriptors -= s.descriptors->size();
        taken.push_back(std::move(s));
    }
    l.spawns = std::move(rest);
    if (l.spawns.empty()) {
        sessions_.erase(at);
        std::erase(turns_, session);
    }
    return taken;
}

queue_usage spawn_queue::usage(session_id session) const {
    const auto at = sessions_.find(session);
    return at == sessions_.end() ? queue_usage{} : at->second.usage;
}

std::size_t spawn_queue::size() const {
    std::size_t n = 0;
    for (const auto& [session, l] : sessions_) n += l.spawns.size();
    return n;
}

}  // namespace cleanfork::daemon
