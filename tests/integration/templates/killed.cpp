// A template, and a child of it, killed at every point of a call: there are finitely many,
// the stops before and after each of its system calls.
#include <doctest/doctest.h>

#include <chrono>
#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/attributes/inspection.hpp"
#include "tests/integration/templates/template_support.hpp"
#include "tests/integration/templates/template_tracer.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

using clock_type = std::chrono::steady_clock;

constexpr unsigned k_code = 7;
const auto k_call_timeout_ms =
    static_cast<std::uint32_t>(test::scaled(std::chrono::seconds(3)).count());
// More stops than a call has: the enumeration has gone wrong.
constexpr int k_most_stops = 2000;
// AddressSanitizer makes each start ten times as long.
constexpr int k_stride = k_sanitized ? 7 : 1;

void reload_template(raw_session& s) {
    v1::ClientMessage m;
    m.mutable_reload_template()->set_name("t");
    REQUIRE(failure_in(s.request(m)) == failure{});
}

void expect_nothing_left(const test_daemon& daemon, baseline& before) {
    before.expect_again();
    const auto give_up = clock_type::now() + k_patience;
    while (!test::children_of(daemon.pid()).empty())
        REQUIRE_MESSAGE(clock_type::now() < give_up, "a process or a zombie is left");
}

// What became of calls, over all points.
struct tally {
    int points = 0, refused = 0, exact = 0, killed = 0;
    void tell(const std::string& what) const {
        MESSAGE(what, ": ", points, " points; calls refused with a typed error ", refused,
                ", run to their exact end ", exact, ", killed and told as that ", killed);
    }
};

// The caller of `request` gets a typed error or an exact status, in time.
void check_call(raw_session& s, std::uint64_t request, bool child_may_be_killed, tally& t) {
    const auto begin = clock_type::now();
    const reply r = s.reply_to(request);
    const failure f = failure_in(r);
    if (f.step != step::none) {
        CHECK_MESSAGE((f.step == step::fork || f.step == step::child_start), f.message());
        CHECK_FALSE(f.detail.empty());
        ++t.refused;
    } else {
        const std::uint64_t child = r.message.spawn().spawned().child();
        const v1::Exit e = s.await_exit(child);
        s.acknowledge({child});
        if (child_may_be_killed && e.how_case() == v1::Exit::kSignal) {
            CHECK(e.signal() == SIGKILL);
            ++t.killed;
        } else {
            REQUIRE(e.how_case() == v1::Exit::kCode);
            CHECK(e.code() == k_code);
            ++t.exact;
        }
    }
    CHECK(clock_type::now() - begin < k_patience);
}

v1::TemplateInfo await_pool(raw_session& s, int warm) {
    return info_until(s, [warm](const v1::TemplateInfo& i) {
        return i.state() == v1::TEMPLATE_STATE_READY && i.generations(0).warm_pids_size() == warm;
    });
}

// One call, during which the template is killed at stop `at`. False when it was not.
bool kill_template_at(raw_session& s, std::uint32_t warm, int at, tally& t) {
    REQUIRE(failure_in(add_template(s, {.warm = warm, .call_timeout_ms = k_call_timeout_ms})) ==
            failure{});
    const sleeping_call living(s);
    const pid_t pid = await_pool(s, static_cast<int>(warm)).generations(0).pid();
    tracer killer(pid, tracer::victim::the_template, at);
    if (!killer.problem().empty()) {
        MESSAGE("not run: ", killer.problem());
        return false;
    }
    const std::uint64_t request = s.post_spawn(call_of("exit", {std::to_string(k_code)}));
    check_call(s, request, false, t);
    const bool killed = killer.killed();
    if (killed) {
        ++t.points;
        // By itself, after the first delay; most of the time there is no need to wait for that.
        if (at % 8 == 1)
            info_until(s, [](const v1::TemplateInfo& i) { return i.restarts() == 1; });
        else
            info_until(s, [](const v1::TemplateInfo& i) {
                return i.state() == v1::TEMPLATE_STATE_FAILED;
            });
        if (at % 8 != 1) reload_template(s);
        const v1::TemplateInfo now = await_pool(s, static_cast<int>(warm));
        CHECK(now.generation() == 2);
    }
    CHECK(call(s, call_of("exit", {"3"})).exit.code() == 3);
    living.expect_exact_end(s);
    remove_template(s);
    return killed;
}

// As above, but the next child of the template.
bool kill_child_at(raw_session& s, std::uint32_t warm, int at, tally& t) {
    const pid_t pid = await_pool(s, static_cast<int>(warm)).generations(0).pid();
    tracer killer(pid, tracer::victim::its_next_child, at);
    if (!killer.problem().empty()) {
        MESSAGE("not run: ", killer.problem());
        return false;
    }
    if (warm != 0) {
        // The one that waits is not traced; the one that takes its place is.
        CHECK(call(s, call_of("exit", {"3"})).exit.code() == 3);
        await_pool(s, static_cast<int>(warm));
    }
    const std::uint64_t request = s.post_spawn(call_of("exit", {std::to_string(k_code)}));
    check_call(s, request, true, t);
    const bool killed = killer.killed();
    if (killed) ++t.points;
    CHECK(testing::template_info(s).generation() == 1);
    return killed;
}

}  // namespace

TEST_CASE("a template killed at any point of a call costs that call at most, and is replaced") {
    const subreaper mine;
    test_daemon daemon;
    raw_session s(daemon);
    baseline before = after_a_first_template(daemon, s);
    std::uint32_t warm = 0;
    SUBCASE("forked when asked for") {}
    SUBCASE("warm") { warm = 1; }
    tally t;
    int at = 1;
    while (kill_template_at(s, warm, at, t)) {
        at += k_stride;
        REQUIRE(at < k_most_stops);
    }
    t.tell(warm == 0 ? "template" : "template with a warm child");
    expect_nothing_left(daemon, before);
    s.spawn_true();
}

TEST_CASE("a child killed at any point on its way to the end is told exactly, or as a failure") {
    const subreaper mine;
    test_daemon daemon;
    raw_session s(daemon);
    baseline before = after_a_first_template(daemon, s);
    std::uint32_t warm = 0;
    SUBCASE("forked when asked for") {}
    SUBCASE("warm") { warm = 1; }
    REQUIRE(failure_in(add_template(s, {.warm = warm, .call_timeout_ms = k_call_timeout_ms})) ==
            failure{});
    const sleeping_call living(s);
    tally t;
    int at = 1;
    while (kill_child_at(s, warm, at, t)) {
        at += k_stride;
        REQUIRE(at < k_most_stops);
    }
    t.tell(warm == 0 ? "child" : "warm child");
    living.expect_exact_end(s);
    remove_template(s);
    expect_nothing_left(daemon, before);
    s.spawn_true();
}
