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

// Spawns and waits for programs that end at once; the best of many short rounds, since
// whatever else the machine does can only make one slower.
double spawn_rate(raw_session& s) {
    double best = 0;
    for (int round = 0; round < k_rounds; ++round) {
        const auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < k_spawns_a_round; ++i) s.spawn_true();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        best = std::max(best, k_spawns_a_round / took.count());
    }
    return best;
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

scale_figures run_at_scale(std::size_t count) {
    ipc::raise_descriptor_limit();
    test_daemon daemon;
    raw_session observer(daemon);
    raw_session s(daemon);
    s.spawn_true();
    scale_figures figures;
    std::vector<live_child> children;
    spawn_until(s, children, k_few);
    figures.rate_few = spawn_rate(s);
    spawn_until(s, children, count);
    figures.rate_many = spawn_rate(s);
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

scale_figures run_at_scale(std::size_t count, double ratio) {
    scale_figures f;
    for (int attempt = 0; attempt < 3; ++attempt) {
        f = run_at_scale(count);
        MESSAGE("spawns a second: ", f.rate_few, " with ", k_few, " alive, ", f.rate_many, " with ",
                count, ", ratio ", f.rate_many / f.rate_few, "; RSS ", f.rss_kib, " KiB");
        if (k_sanitized || f.rate_many >= ratio * f.rate_few) break;
    }
    return f;
}

}  // namespace cleanfork::testing
