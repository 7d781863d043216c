#include "tests/integration/soak/scale_support.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::testing {

namespace {

constexpr std::size_t k_few = 10;
constexpr int k_rounds = 40;
constexpr int k_spawns_a_round = 30;

// Programs a second that are spawned, end at once and are waited for.
double spawn_rate(raw_session& s) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < k_spawns_a_round; ++i) s.spawn_true();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    return k_spawns_a_round / took.count();
}

// The best of many short rounds, since whatever else the machine does can only make one
// slower; in turn, since it may do so for a while.
void measure(raw_session& few, raw_session& many, scale_figures& figures) {
    for (int round = 0; round < k_rounds; ++round) {
        figures.rate_few = std::max(figures.rate_few, spawn_rate(few));
        figures.rate_many = std::max(figures.rate_many, spawn_rate(many));
    }
}

void spawn_until(raw_session& s, std::vector<live_child>& children, std::size_t count) {
    while (children.size() < count) {
        v1::ClientMessage m;
        const std::size_t n = std::min(count - children.size(), ipc::k_max_batch);
        for (std::size_t i = 0; i < n; ++i) *m.mutable_batch()->add_items() = sleeper();
        reply r = s.request(m);
        REQUIRE(r.descriptors.size() == n);
        for (std::size_t i = 0; i < n; ++i) {
            const v1::Spawned& spawned = r.message.batch().items(static_cast<int>(i)).spawned();
            children.push_back({spawned.child(), spawned.pid(), std::move(r.descriptors[i])});
        }
    }
}

}  // namespace

void end_of_session(std::size_t count, scale_figures& figures) {
    ipc::raise_descriptor_limit();
    test_daemon daemon;
    raw_session neighbour(daemon), s(daemon);
    std::vector<live_child> children;
    spawn_until(s, children, count);
    const auto begin = std::chrono::steady_clock::now();
    const auto seconds_since = [](auto then) {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
    };
    s.close();
    for (bool there = true; there;) {
        const auto asked = std::chrono::steady_clock::now();
        neighbour.spawn_true();
        figures.neighbour_s = std::max(figures.neighbour_s, seconds_since(asked));
        const v1::StatsReply st = neighbour.stats();
        there = st.children() != 0 || st.statuses() > 1;
        figures.longest_turn_s = static_cast<double>(st.turn_ns_max()) / 1e9;
    }
    figures.end_s = seconds_since(begin);
    MESSAGE("the end of a session with ", count, " children took ", figures.end_s,
            " s; a neighbour's spawn at most ", figures.neighbour_s, " s, the longest turn ",
            figures.longest_turn_s, " s");
}

scale_figures run_at_scale(std::size_t count) {
    ipc::raise_descriptor_limit();
    test_daemon daemon, daemon_of_few;
    raw_session observer(daemon);
    raw_session s(daemon), few(daemon_of_few);
    scale_figures figures;
    std::vector<live_child> children, few_children;
    spawn_until(few, few_children, k_few);
    spawn_until(s, children, count);
    measure(few, s, figures);
    MESSAGE("spawns a second: ", figures.rate_few, " with ", k_few, " alive, ", figures.rate_many,
            " with ", count, ", ratio ", figures.rate_many / figures.rate_few);
    const v1::StatsReply at_most = observer.stats();
    CHECK(at_most.children() == count);
    figures.rss_kib = at_most.rss_kib();
    for (const live_child& c : children) REQUIRE(ipc::pidfd_signal(c.pidfd.get(), SIGTERM) == 0);
    for (const live_child& c : children) {
        REQUIRE(s.await_exit(c.id).signal() == SIGTERM);
        ++figures.statuses;
        s.acknowledge({c.id});
    }
    CHECK(s.exits.empty());
    observer.stats_until(
        [](const v1::StatsReply& st) { return st.children() == 0 && st.statuses() == 0; });
    return figures;
}

}  // namespace cleanfork::testing
