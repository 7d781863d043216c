// Clients that come, ask, misbehave and die at random, for $CLEANFORK_SOAK_SECONDS (60).
// ./dev soak
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/hostile/hostile_session.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

using clock_type = std::chrono::steady_clock;

std::chrono::seconds duration() {
    const char* value = std::getenv("CLEANFORK_SOAK_SECONDS");
    return std::chrono::seconds(value != nullptr ? std::atoi(value) : 60);
}

// One client with a will of its own, in a process of its own, so that it can die.
class random_client {
public:
    random_client(const test_daemon& daemon, unsigned seed) : session_(daemon), random_(seed) {}

    // Returns when it leaves politely.
    void run() {
        const unsigned actions = 20 + below(200);
        for (unsigned i = 0; i < actions; ++i) act();
    }

private:
    unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }

    v1::SpawnRequest some_program() {
        v1::SpawnRequest r;
        switch (below(6)) {
            case 0: r = sleeper(); break;
            case 1: r = shell("exit " + std::to_string(below(256))); break;
            case 2: r = program({"/no/such/program"}); break;
            case 3: r = shell("kill -" + std::to_string(1 + below(15)) + " $$"); break;
            default: r = program({helper_path("nothing")}); break;
        }
        r.mutable_lifetime()->set_grace_ms(below(50));
        r.mutable_lifetime()->set_target(below(2) == 0 ? v1::SIGNAL_TARGET_GROUP
                                                       : v1::SIGNAL_TARGET_PROCESS);
        if (below(4) == 0) r.set_reply_hold_us(below(2000));
        if (below(8) == 0) r.mutable_environment()->add_set("BIG=" + std::string(90'000, 'x'));
        return r;
    }

    void act() {
        switch (below(12)) {
            case 0: return spawn_batch();
            case 1: return end_one();
            case 2: session_.stats(); return;
            case 3: session_.list(); return;
            case 4: return cancel_one();
            case 5: return acknowledge_all();
            case 6:
                if (below(100) == 0) ::kill(::getpid(), SIGKILL);
                return;
            case 7: return misbehave();
            default: return spawn_one();
        }
    }

    void spawn_one() {
        const std::uint64_t request = session_.post_spawn(some_program());
        if (below(3) == 0) return;  // its reply comes when it comes
        keep(session_.reply_to(request));
    }

    void keep(reply r) {
        if (!r.message.spawn().has_spawned() || r.descriptors.empty()) return;
        const v1::Spawned& s = r.message.spawn().spawned();
        children_.push_back({s.child(), s.pid(), std::move(r.descriptors.front())});
    }

    void spawn_batch() {
        v1::ClientMessage m;
        for (unsigned i = 0; i <= below(20); ++i) *m.mutable_batch()->add_items() = some_program();
        session_.request(m);
    }

    void end_one() {
        if (children_.empty()) return;
        std::swap(children_[below(static_cast<unsigned>(children_.size()))], children_.back());
        ipc::pidfd_signal(children_.back().pidfd.get(), below(2) == 0 ? SIGTERM : SIGKILL);
        children_.pop_back();
    }

    void cancel_one() {
        const std::uint64_t request = session_.post_spawn(some_program());
        v1::ClientMessage m;
        m.mutable_cancel()->set_request_id(request);
        session_.request(m);
    }

    void acknowledge_all() {
        for (const auto& [child, exit] : session_.exits) session_.acknowledge({child});
        session_.exits.clear();
    }

    // The daemon hangs up on this one; the next client is another.
    void misbehave() {
        if (below(40) != 0) return;
        std::string bytes(1 + below(100), '\0');
        for (char& c : bytes) c = static_cast<char>(random_());
        [[maybe_unused]] const int sent = session_.send_bytes(bytes);
        ::_exit(0);
    }

    raw_session session_;
    std::mt19937 random_;
    std::vector<live_child> children_;
};

pid_t start_client(const test_daemon& daemon, unsigned seed) {
    const pid_t pid = ::fork();
    if (pid == 0) {
        random_client(daemon, seed).run();
        ::_exit(0);
    }
    REQUIRE(pid > 0);
    return pid;
}

// All of a generation come at once and go as they like; the descriptors must be those of before.
void run_generation(const test_daemon& daemon, std::mt19937& random) {
    std::vector<pid_t> clients;
    for (int i = 0; i < 6; ++i)
        clients.push_back(start_client(daemon, static_cast<unsigned>(random())));
    for (const pid_t pid : clients) {
        int status = 0;
        REQUIRE(::waitpid(pid, &status, 0) == pid);
        CHECK((status == 0 || WTERMSIG(status) == SIGKILL));
    }
}

}  // namespace

TEST_SUITE("soak") {
    TEST_CASE("clients that misbehave at random leave the daemon's descriptors and memory flat" *
              doctest::skip()) {
        const unsigned seed = std::random_device()();
        MESSAGE("seed ", seed);
        std::mt19937 random(seed);
        test_daemon daemon({.args = {"--log-level", "error"}});
        raw_session observer(daemon);
        const auto at_rest = [&] {
            return observer.stats_until([](const v1::StatsReply& s) {
                return s.sessions() == 1 && s.children() == 0 && s.statuses() == 0;
            });
        };
        const std::uint64_t descriptors = observer.stats().descriptors();
        for (int i = 0; i < 10; ++i) run_generation(daemon, random);
        const std::uint64_t rss_warm = at_rest().rss_kib();
        std::uint64_t rss_most = 0;
        const auto end = clock_type::now() + duration();
        while (clock_type::now() < end) {
            run_generation(daemon, random);
            const v1::StatsReply s = at_rest();
            REQUIRE(s.descriptors() == descriptors);
            rss_most = std::max(rss_most, s.rss_kib());
        }
        const v1::StatsReply s = observer.stats();
        MESSAGE(s.sessions_total(), " sessions, ", s.spawned_total(), " spawned, ",
                s.failed_total(), " failed, ", s.protocol_errors_total(), " protocol errors; RSS ",
                rss_warm, " KiB warm, at most ", rss_most, " KiB");
        if (!k_sanitized) CHECK(rss_most <= rss_warm + 8192);
        observer.spawn_true();
    }
}
