#include "forkserver/daemon/templates/child_slots.hpp"

#include <algorithm>
#include <cassert>
#include <csignal>
#include <numeric>
#include <utility>

namespace cleanfork::daemon {

namespace {

// As many orders as the control socket holds without a thought; the rest waits here.
constexpr std::size_t k_most_unstarted = 64;
// When a warm child could not be had: the next one is not tried at once, and again.
constexpr std::chrono::milliseconds k_pause{100};

}  // namespace

// ---- the one place that counts ---------------------------------------------

void child_slots::add(slot s, clock::time_point now) {
    s.at = stage::ordered;
    s.deadline = now + to_start_;
    const bool is_warm = bool(s.channel);
    const auto at = slots_.emplace_hint(slots_.end(), next_, std::move(s));
    try {
        if (is_warm) pool_.push_back(next_);
    } catch (...) {
        slots_.erase(at);
        throw;
    }
    ++count(stage::ordered);
    (void)next_.take_next();
    check(at->second);
}

void child_slots::enter(slot& s, stage to) {
    assert(count(s.at) != 0);
    --count(s.at);
    ++count(to);
    s.at = to;
    check(s);
}

child_slots::slots::iterator child_slots::erase(slots::iterator at) {
    leave_pool(at);
    assert(count(at->second.at) != 0);
    const auto known = pids_.find(at->second.pid);
    if (known != pids_.end() && known->second == at->first) pids_.erase(known);
    --count(at->second.at);
    return slots_.erase(at);
}

unique_fd child_slots::leave_pool(slots::iterator at) {
    if (!at->second.channel) return {};
    pool_.erase(std::find(pool_.begin(), pool_.end(), at->first));
    return std::move(at->second.channel);
}

void child_slots::check([[maybe_unused]] const slot& s) const {
    assert(std::accumulate(counts_.begin(), counts_.end(), std::size_t{0}) == slots_.size());
    assert(pool_.size() <= count(stage::ordered) + count(stage::parked));
    assert(!s.call || s.at == stage::ordered || s.at == stage::asked);
    assert(!s.wanted || s.at == stage::ordered || s.at == stage::asked);
    assert(s.call || s.at != stage::asked);
    assert(!s.channel || s.at == stage::ordered || s.at == stage::parked);
    assert(!s.channel || !s.call);
    assert(!s.child || s.at == stage::running);
}

// ---- orders ----------------------------------------------------------------

void child_slots::order_for_call(queued_spawn call, clock::time_point now, call_channel channel) {
    slot s;
    s.call = std::move(call);
    s.wanted = std::move(channel);
    add(std::move(s), now);
}

void child_slots::order_warm(unique_fd channel, clock::time_point now) {
    assert(channel);
    slot s;
    s.channel = std::move(channel);
    add(std::move(s), now);
}

int child_slots::warm_channel() const {
    return pool_.empty() ? -1 : slots_.at(pool_.front()).channel.get();
}

child_slots::slots::iterator child_slots::first_warm() {
    assert(!pool_.empty());
    return slots_.find(pool_.front());
}

void child_slots::ask_warm(queued_spawn call, clock::time_point now) {
    const auto at = first_warm();
    unique_fd channel = leave_pool(at);
    at->second.call = std::move(call);
    at->second.wanted = call_channel(std::move(channel));
    at->second.deadline = now + to_start_;
    enter(at->second, stage::asked);
}

void child_slots::drop_warm() {
    const auto at = first_warm();
    leave_pool(at);
    enter(at->second, stage::unwanted);
}

void child_slots::close_pool() {
    while (!pool_.empty()) leave_pool(first_warm());
}

// ---- reports ---------------------------------------------------------------

const ipc::process_ref* child_slots::process_of(sequence_number s) const {
    const auto at = slots_.find(s);
    return at != slots_.end() && at->second.process ? &at->second.process : nullptr;
}

bool child_slots::is_of_another(sequence_number s, pid_t pid) const {
    const auto known = pids_.find(pid);
    return known != pids_.end() && known->second != s;
}

void child_slots::has_pid(slots::iterator at, pid_t pid) {
    if (pid <= 0 || at->second.pid != 0) return;
    at->second.pid = pid;
    pids_[pid] = at->first;
}

child_id child_slots::child_of(sequence_number s) const {
    const auto at = slots_.find(s);
    return at == slots_.end() ? child_id() : at->second.child;
}

ipc::process_ref child_slots::parked(sequence_number s, ipc::process_ref process) {
    const auto at = slots_.find(s);
    if (at == slots_.end()) return {};
    slot& its = at->second;
    has_pid(at, process.pid());
    switch (its.at) {
        case stage::ordered:
            if (its.call) return {};  // such a child does not park
            its.process = std::move(process);
            enter(its, stage::parked);
            return {};
        // Its request was sent before it parked.
        case stage::asked: its.process = std::move(process); return {};
        case stage::unwanted: return process;
        case stage::parked:
        case stage::running: return {};
    }
    return {};
}

child_slots::start child_slots::started(sequence_number s, ipc::process_ref process) {
    const auto at = slots_.find(s);
    if (at == slots_.end()) return {std::nullopt, std::move(process)};
    slot& its = at->second;
    start begun;
    has_pid(at, process.pid());
    begun.process = process ? std::move(process) : std::move(its.process);
    if (!its.call) return begun;
    begun.call = std::move(its.call);
    its.call.reset();
    its.process = {};
    begun.channel = std::exchange(its.wanted, {});
    enter(its, stage::running);
    return begun;
}

void child_slots::runs_as(sequence_number s, child_id child) {
    const auto at = slots_.find(s);
    assert(at != slots_.end() && at->second.at == stage::running && !at->second.child);
    at->second.child = child;
    if (!child) enter(at->second, stage::unwanted);
}

std::optional<child_slots::concerned> child_slots::failed(sequence_number s, failed_at where,
                                                          clock::time_point now) {
    const auto at = slots_.find(s);
    if (at == slots_.end() || at->second.at == stage::running) return std::nullopt;
    slot& its = at->second;
    if (its.channel) order_warm_from_ = now + k_pause;
    concerned c{std::move(its.call), {}};
    its.call.reset();
    its.wanted = {};
    leave_pool(at);
    enter(its, stage::unwanted);
    if (where == failed_at::fork) erase(at);
    return c;
}

std::optional<child_slots::concerned> child_slots::ended(sequence_number s, clock::time_point now) {
    const auto at = slots_.find(s);
    if (at == slots_.end()) return std::nullopt;
    slot& its = at->second;
    if (its.channel && its.at == stage::ordered) order_warm_from_ = now + k_pause;
    concerned c{std::move(its.call), its.child};
    erase(at);
    return c;
}

// ---- children that are not to run ------------------------------------------

child_slots::withdrawn child_slots::withdraw(slots::iterator at) {
    slot& its = at->second;
    withdrawn w{at->first, std::move(its.process), std::move(its.call)};
    its.process = {};
    its.call.reset();
    its.wanted = {};
    leave_pool(at);
    enter(its, stage::unwanted);
    return w;
}

std::vector<child_slots::withdrawn> child_slots::withdraw(session_id session, request_id request) {
    std::vector<withdrawn> all;
    for (auto at = slots_.begin(); at != slots_.end(); ++at) {
        const std::optional<queued_spawn>& call = at->second.call;
        if (!call || call->becomes) continue;
        if (session && call->session != session) continue;
        if (request && call->request_id != request) continue;
        all.push_back(withdraw(at));
    }
    return all;
}

std::vector<child_slots::withdrawn> child_slots::withdraw_late(clock::time_point now) {
    std::vector<withdrawn> all;
    for (auto at = slots_.begin(); at != slots_.end(); ++at) {
        const slot& s = at->second;
        const bool is_to_tell = s.at == stage::ordered || s.at == stage::asked;
        if (is_to_tell && s.deadline <= now) all.push_back(withdraw(at));
    }
    return all;
}

void child_slots::drop(sequence_number s) {
    const auto at = slots_.find(s);
    assert(at != slots_.end() && at->second.at == stage::unwanted);
    erase(at);
}

std::vector<queued_spawn> child_slots::drop_unstarted() {
    std::vector<queued_spawn> calls;
    for (auto at = slots_.begin(); at != slots_.end();) {
        if (at->second.call) calls.push_back(std::move(*at->second.call));
        at = at->second.at == stage::running ? std::next(at) : erase(at);
    }
    return calls;
}

void child_slots::kill_unstarted() const {
    for (const auto& [sequence, s] : slots_)
        if (s.at != stage::running) s.process.signal(SIGKILL);
}

bool child_slots::forget(child_id child) {
    if (!child) return false;
    const auto at = std::find_if(slots_.begin(), slots_.end(),
                                 [child](const auto& s) { return s.second.child == child; });
    if (at == slots_.end()) return false;
    erase(at);
    return true;
}

// ---- counts ----------------------------------------------------------------

bool child_slots::busy() const {
    return running() != 0 || std::any_of(slots_.begin(), slots_.end(),
                                         [](const auto& s) { return s.second.call.has_value(); });
}

bool child_slots::room() const noexcept { return unstarted() < k_most_unstarted || warm() != 0; }

bool child_slots::may_order_warm(clock::time_point now) const noexcept {
    return lacks_warm() && unstarted() < k_most_unstarted && now >= order_warm_from_;
}

std::vector<child_id> child_slots::running_children() const {
    std::vector<child_id> children;
    for (const auto& [sequence, s] : slots_)
        if (s.at == stage::running) children.push_back(s.child);
    return children;
}

std::vector<pid_t> child_slots::parked_pids() const {
    std::vector<pid_t> pids;
    for (const auto& [sequence, s] : slots_)
        if (s.at == stage::parked) pids.push_back(s.process.pid());
    return pids;
}

}  // namespace cleanfork::daemon
