// When a child that has ended is started again.
#include "forkserver/daemon/children/restart_schedule.hpp"

#include <doctest/doctest.h>

#include <csignal>
#include <vector>

#include "forkserver/daemon/children/child.hpp"

using namespace cleanfork::daemon;
using namespace cleanfork;
using std::chrono::milliseconds;

namespace {

constexpr restart_schedule::clock::time_point k_now{std::chrono::hours(1)};
const child_exit k_clean{};
const child_exit k_failed{.wait_status = 1 << 8};

v1::Restart restart(v1::RestartPolicy policy, std::uint32_t burst = 0) {
    v1::Restart r;
    r.set_policy(policy);
    r.set_delay_ms(100);
    r.set_max_delay_ms(1000);
    r.set_burst(burst);
    r.set_interval_ms(10'000);
    return r;
}

// The pauses of a program that fails as soon as it is started, until it is over.
std::vector<std::int64_t> pauses(restart_schedule& s, std::size_t most) {
    std::vector<std::int64_t> all;
    auto now = k_now;
    while (all.size() < most) {
        s.started(now);
        const auto next = s.ended(k_failed, now);
        if (!next) break;
        all.push_back(std::chrono::duration_cast<milliseconds>(*next - now).count());
        now = *next;
    }
    return all;
}

}  // namespace

TEST_CASE("each restart doubles the pause, up to the longest") {
    restart_schedule s(restart(v1::RESTART_POLICY_ON_FAILURE));
    CHECK(pauses(s, 6) == std::vector<std::int64_t>{100, 200, 400, 800, 1000, 1000});
}

TEST_CASE("one that ran for the interval begins with the first pause again") {
    restart_schedule s(restart(v1::RESTART_POLICY_ON_FAILURE));
    CHECK(pauses(s, 3).back() == 400);
    s.started(k_now);
    const auto later = k_now + milliseconds(10'000);
    CHECK(s.ended(k_failed, later) == later + milliseconds(100));
}

TEST_CASE("after so many starts within the interval it is over") {
    restart_schedule s(restart(v1::RESTART_POLICY_ON_FAILURE, 3));
    CHECK(pauses(s, 9).size() == 2);
    restart_schedule one(restart(v1::RESTART_POLICY_ALWAYS, 1));
    CHECK(pauses(one, 9).empty());
}

TEST_CASE("starts that are longer ago than the interval do not count") {
    restart_schedule s(restart(v1::RESTART_POLICY_ON_FAILURE, 2));
    auto now = k_now;
    for (int i = 0; i < 10; ++i) {
        s.started(now);
        const auto next = s.ended(k_failed, now + milliseconds(9'900));
        REQUIRE(next);
        now = *next;
    }
}

TEST_CASE("on failure means not after 0, and not after signals that ask for the end") {
    restart_schedule s(restart(v1::RESTART_POLICY_ON_FAILURE));
    s.started(k_now);
    CHECK_FALSE(s.ended(k_clean, k_now));
    for (const int number : {SIGHUP, SIGINT, SIGTERM, SIGPIPE})
        CHECK_FALSE(s.ended({.wait_status = number}, k_now));
    for (const int number : {SIGKILL, SIGSEGV | 0x80, SIGQUIT})
        CHECK(s.ended({.wait_status = number}, k_now));
    CHECK(s.ended({.known = false}, k_now));
    CHECK(s.ended(k_failed, k_now));
}

TEST_CASE("always means after a clean end too") {
    restart_schedule s(restart(v1::RESTART_POLICY_ALWAYS));
    s.started(k_now);
    CHECK(s.ended(k_clean, k_now));
    CHECK(s.ended({.wait_status = SIGTERM}, k_now));
}

TEST_CASE("numbers beyond their bounds are refused") {
    const auto why = [](v1::Restart r) { return restart_schedule::refusal(r).error_number; };
    v1::Restart r = restart(v1::RESTART_POLICY_ALWAYS, 10'000);
    r.set_delay_ms(86'400'000);
    r.set_interval_ms(86'400'000);
    CHECK(why(r) == 0);
    r.set_delay_ms(86'400'001);
    CHECK(why(r) == EINVAL);
    r.set_delay_ms(1);
    r.set_interval_ms(86'400'001);
    CHECK(why(r) == EINVAL);
    CHECK(why(restart(v1::RESTART_POLICY_ALWAYS, 10'001)) == EINVAL);
    CHECK(why(restart(static_cast<v1::RestartPolicy>(4))) == EINVAL);
}
