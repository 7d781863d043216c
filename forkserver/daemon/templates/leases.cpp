#include "forkserver/daemon/templates/leases.hpp"

#include <sys/socket.h>

#include <algorithm>

namespace cleanfork::daemon {

leases::leases(event_loop& io, child_table& children, const std::size_t& idle_ms)
    : children_(children), idle_ms_(idle_ms), timer_(io, "leases", [this] { take_back_idle(); }) {}

std::optional<lease_place> leases::place(generation_id from, session_id session, std::size_t most) {
    if (most == 0) return std::nullopt;
    group& g = groups_[from];
    if (g.counts->all >= most && !make_room(g, session)) return std::nullopt;
    return lease_place(g.counts, session);
}

// From the session that has most, when it would still have no less than this one.
bool leases::make_room(const group& g, session_id session) {
    const auto& all = g.counts->of_session;
    const auto richest = std::max_element(
        all.begin(), all.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    if (richest == all.end() || richest->second <= g.counts->of(session) + 1) return false;
    const auto oldest = std::find_if(g.waiting.begin(), g.waiting.end(), [&](child_id id) {
        const child* c = children_.find(id);
        return c != nullptr && c->origin.session == richest->first;
    });
    if (oldest == g.waiting.end()) return false;  // asked for, and not granted yet
    revoke(*children_.find(*oldest));
    return true;
}

void leases::granted(child& c, generation_id from, asked_lease&& lease) {
    groups_[from].waiting.push_back(c.id);
    c.lease.emplace();
    c.lease->channel = std::move(lease.channel);
    c.lease->place = std::move(lease.place);
    c.lease->from = from;
    timer_.set(c.lease->since + idle());
}

void leases::is_over(child& c) {
    if (!c.lease) return;
    const auto at = groups_.find(c.lease->from);
    c.lease.reset();
    if (at == groups_.end()) return;
    std::erase(at->second.waiting, c.id);
    drop_empty();
}

// It counts no more, whatever becomes of it: another takes its place now.
void leases::revoke(child& c) {
    if (!c.lease || !c.lease->channel) return;
    ::shutdown(c.lease->channel.get(), SHUT_WR);
    c.lease->channel.reset();
    c.lease->place.give_back();
    c.origin.place.give_back();
}

template <class Predicate>
void leases::revoke_if(const group& g, Predicate is_it) {
    for (const child_id id : g.waiting)
        if (child* c = children_.find(id); c != nullptr && is_it(*c)) revoke(*c);
}

void leases::revoke(generation_id from) {
    const auto at = groups_.find(from);
    if (at != groups_.end()) revoke_if(at->second, [](const child&) { return true; });
}

void leases::revoke(session_id session) {
    for (const auto& [from, g] : groups_)
        revoke_if(g, [session](const child& c) { return c.origin.session == session; });
}

void leases::revoke_all() {
    for (const auto& [from, g] : groups_) revoke_if(g, [](const child&) { return true; });
}

std::size_t leases::waiting(generation_id from) const {
    const auto at = groups_.find(from);
    return at == groups_.end() ? 0 : at->second.waiting.size();
}

void leases::take_back_idle() {
    const auto now = steady::now();
    auto next = steady::time_point::max();
    for (const auto& [from, g] : groups_)
        for (const child_id id : g.waiting) {
            child* c = children_.find(id);
            if (c == nullptr || !c->lease || !c->lease->channel) continue;
            if (c->lease->since + idle() <= now)
                revoke(*c);
            else
                next = std::min(next, c->lease->since + idle());
        }
    if (next != steady::time_point::max()) timer_.set(next);
}

void leases::drop_empty() {
    std::erase_if(groups_, [](const auto& entry) {
        return entry.second.waiting.empty() && entry.second.counts->all == 0;
    });
}

}  // namespace cleanfork::daemon
