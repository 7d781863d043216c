#include "client/src/connection/lease_pool.hpp"

#include <algorithm>

#include "client/src/connection/child_state.hpp"

namespace cleanfork::detail {

namespace {

// The first call tells nothing of a second one.
constexpr std::uint64_t k_calls_before = 2;
constexpr std::size_t k_most_kinds = 64;
constexpr std::size_t k_most_wanted = 64;  // of a kind; the forkserver decides how many there are
constexpr std::chrono::seconds k_after_refusal{1};

}  // namespace

std::optional<lease> lease_pool::first_of(waiting& w) {
    if (w.leases.empty()) return std::nullopt;
    std::optional<lease> l(std::move(w.leases.front()));
    w.leases.pop_front();
    return l;
}

std::optional<lease> lease_pool::take(const std::string& kind) {
    const auto held = kinds_.lock();
    if (held->closed) return std::nullopt;
    auto at = held->all.find(kind);
    if (at == held->all.end()) {
        if (held->all.size() >= k_most_kinds)
            std::erase_if(held->all, [](const auto& entry) {
                return entry.second.leases.empty() && entry.second.asked == 0;
            });
        if (held->all.size() >= k_most_kinds) return std::nullopt;
        at = held->all.emplace(kind, waiting()).first;
    }
    ++at->second.calls;
    return first_of(at->second);
}

bool lease_pool::awaits(const std::string& kind) {
    const auto held = kinds_.lock();
    const auto at = held->all.find(kind);
    return at != held->all.end() && at->second.asked != 0;
}

std::optional<lease> lease_pool::take_late(const std::string& kind) {
    const auto held = kinds_.lock();
    const auto at = held->all.find(kind);
    if (at == held->all.end()) return std::nullopt;
    waiting& w = at->second;
    auto l = first_of(w);
    // More calls at a time than there were leases.
    if (!l && w.calls > k_calls_before && steady::now() >= w.grow_from)
        w.wanted = std::min(w.wanted * 2, k_most_wanted);
    return l;
}

std::size_t lease_pool::to_ask_for(const std::string& kind) {
    const auto held = kinds_.lock();
    const auto at = held->all.find(kind);
    if (at == held->all.end() || held->closed) return 0;
    waiting& w = at->second;
    const std::size_t there = w.leases.size() + w.asked;
    if (w.calls < k_calls_before || there >= w.wanted || steady::now() < w.ask_from) return 0;
    const std::size_t missing = w.wanted - there;
    w.asked += missing;
    return missing;
}

std::optional<lease> lease_pool::granted(const std::string& kind, lease&& l) {
    const auto held = kinds_.lock();
    const auto at = held->all.find(kind);
    if (held->closed || at == held->all.end()) return std::move(l);
    --at->second.asked;
    at->second.leases.push_back(std::move(l));
    return std::nullopt;
}

// What there is, is as much as it gets for now.
void lease_pool::refused(const std::string& kind) {
    const auto held = kinds_.lock();
    const auto at = held->all.find(kind);
    if (at == held->all.end()) return;
    waiting& w = at->second;
    --w.asked;
    const std::size_t there = w.leases.size() + w.asked;
    w.wanted = std::max<std::size_t>(there, 1);
    w.grow_from = steady::now() + k_after_refusal;
    if (there == 0) w.ask_from = w.grow_from;
}

std::optional<lease> lease_pool::forget(ipc::child_id child) {
    const auto held = kinds_.lock();
    for (auto& [kind, w] : held->all) {
        const auto at = std::find_if(w.leases.begin(), w.leases.end(),
                                     [child](const lease& l) { return l.child->id() == child; });
        if (at == w.leases.end()) continue;
        std::optional<lease> l(std::move(*at));
        w.leases.erase(at);
        return l;
    }
    return std::nullopt;
}

std::vector<lease> lease_pool::close() {
    const auto held = kinds_.lock();
    held->closed = true;
    std::vector<lease> all;
    for (auto& [kind, w] : held->all)
        for (lease& l : w.leases) all.push_back(std::move(l));
    held->all.clear();
    return all;
}

}  // namespace cleanfork::detail
