// The stages of a template's children: every order and every report in every stage, and the
// counts that come of them. No process is needed: a descriptor of /dev/null plays the pidfd.
#include "forkserver/daemon/templates/child_slots.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <functional>
#include <string>

using namespace cleanfork;
using namespace cleanfork::daemon;
using std::chrono::milliseconds;

namespace {

using clock_type = child_slots::clock;

constexpr clock_type::time_point k_now{std::chrono::hours(1)};
constexpr milliseconds k_to_start{1000};
constexpr std::size_t k_warm_wanted = 2;
constexpr std::size_t k_most_unstarted = 64;

unique_fd any_descriptor() { return unique_fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

// One that is never signalled: it is no pidfd.
ipc::process_ref process_of(pid_t pid) { return {pid, any_descriptor()}; }

queued_spawn call_of(std::uint64_t session, std::uint64_t request) {
    queued_spawn q;
    q.session = session_id(session);
    q.request_id = request_id(request);
    return q;
}

struct counts {
    std::size_t unstarted, warm, running;
    bool operator==(const counts&) const = default;
};

counts counts_of(const child_slots& s) { return {s.unstarted(), s.warm(), s.running()}; }

// One child in one stage.
struct scene {
    child_slots slots{k_warm_wanted, k_to_start};
    sequence_number it = slots.next();

    void order() { slots.order_for_call(call_of(1, 7), k_now); }
    void order_warm() { slots.order_warm(any_descriptor(), k_now); }
    void park() { (void)slots.parked(it, process_of(100)); }
    void ask() { slots.ask_warm(call_of(1, 7), k_now); }
    void run() {
        const child_slots::start begun = slots.started(it, process_of(200));
        REQUIRE(begun.call.has_value());
        slots.runs_as(it, child_id(5));
    }
};

struct stage_case {
    const char* name;
    std::function<void(scene&)> reach;
    counts before;
    bool has_call;
    bool is_warm;
};

const std::vector<stage_case>& stages() {
    static const std::vector<stage_case> all{
        {"ordered for a call", [](scene& s) { s.order(); }, {1, 0, 0}, true, false},
        {"ordered warm", [](scene& s) { s.order_warm(); }, {1, 1, 0}, false, true},
        {"ordered warm, its pool closed",
         [](scene& s) { s.order_warm(), s.slots.close_pool(); },
         {1, 0, 0},
         false,
         false},
        {"parked", [](scene& s) { s.order_warm(), s.park(); }, {0, 1, 0}, false, true},
        {"parked, its pool closed",
         [](scene& s) { s.order_warm(), s.park(), s.slots.close_pool(); },
         {0, 0, 0},
         false,
         false},
        {"asked before it parked",
         [](scene& s) { s.order_warm(), s.ask(); },
         {1, 0, 0},
         true,
         false},
        {"asked when it was parked",
         [](scene& s) { s.order_warm(), s.park(), s.ask(); },
         {1, 0, 0},
         true,
         false},
        {"running", [](scene& s) { s.order(), s.run(); }, {0, 0, 1}, false, false},
        {"unwanted, having been asked for",
         [](scene& s) { s.order(), (void)s.slots.withdraw({}, {}); },
         {0, 0, 0},
         false,
         false},
        {"unwanted, having died where it waited",
         [](scene& s) { s.order_warm(), s.park(), s.slots.drop_warm(); },
         {0, 0, 0},
         false,
         false},
    };
    return all;
}

bool is(const stage_case& c, const char* stage) {
    return std::string_view(c.name).starts_with(stage);
}

}  // namespace

TEST_CASE("each stage has its counts") {
    for (const stage_case& c : stages()) {
        CAPTURE(c.name);
        scene s;
        CHECK(s.slots.empty());
        c.reach(s);
        CHECK(counts_of(s.slots) == c.before);
        CHECK(s.slots.busy() == (c.has_call || is(c, "running")));
        CHECK(s.slots.knows(s.it));
        CHECK_FALSE(s.slots.empty());
        CHECK((s.slots.warm_channel() >= 0) == c.is_warm);
        CHECK(s.slots.parked_pids().size() == (is(c, "parked") ? 1 : 0));
        CHECK(s.slots.running_children().size() == (is(c, "running") ? 1 : 0));
    }
}

TEST_CASE("a child that parks waits warm; only one that was ordered ahead does") {
    for (const stage_case& c : stages()) {
        CAPTURE(c.name);
        scene s;
        c.reach(s);
        const ipc::process_ref to_kill = s.slots.parked(s.it, process_of(300));
        CHECK(bool(to_kill) == is(c, "unwanted"));
        const bool parks = is(c, "ordered warm");
        counts after = c.before;
        if (parks) --after.unstarted;
        CHECK(counts_of(s.slots) == after);
        if (parks) CHECK(s.slots.parked_pids() == std::vector<pid_t>{300});
    }
}

TEST_CASE("a child starts when it has a call; one without is given back to be killed") {
    for (const stage_case& c : stages()) {
        CAPTURE(c.name);
        scene s;
        c.reach(s);
        const child_slots::start begun = s.slots.started(s.it, process_of(300));
        CHECK(begun.call.has_value() == c.has_call);
        CHECK(begun.process.pid() == 300);
        CHECK(bool(begun.process));
        if (!begun.call) {
            CHECK(counts_of(s.slots) == c.before);
            continue;
        }
        CHECK(begun.call->request_id == request_id(7));
        s.slots.runs_as(s.it, child_id(5));
        CHECK(counts_of(s.slots) == counts{0, 0, 1});
        CHECK(s.slots.running_children() == std::vector{child_id(5)});
        // Told twice, it is killed: there is no second call.
        CHECK_FALSE(s.slots.started(s.it, process_of(301)).call.has_value());
        CHECK(counts_of(s.slots) == counts{0, 0, 1});
    }
}

TEST_CASE("a warm child tells its process when it parks, and not again when it starts") {
    scene s;
    s.order_warm();
    s.park();
    s.ask();
    const child_slots::start begun = s.slots.started(s.it, {});
    CHECK(begun.call.has_value());
    CHECK(begun.process.pid() == 100);
    CHECK(bool(begun.process));
}

TEST_CASE("a child that nobody wants when it starts is unwanted until it ends") {
    scene s;
    s.order();
    REQUIRE(s.slots.started(s.it, process_of(200)).call.has_value());
    s.slots.runs_as(s.it, {});
    CHECK(counts_of(s.slots) == counts{0, 0, 0});
    CHECK(s.slots.knows(s.it));
    const auto ended = s.slots.ended(s.it, k_now);
    REQUIRE(ended.has_value());
    CHECK_FALSE(ended->call.has_value());
    CHECK_FALSE(bool(ended->child));
    CHECK(s.slots.empty());
}

TEST_CASE("a child that fails gives its call back, and its end is still to come") {
    for (const auto where : {child_slots::failed_at::fork, child_slots::failed_at::start})
        for (const stage_case& c : stages()) {
            CAPTURE(c.name);
            scene s;
            c.reach(s);
            const auto concerned = s.slots.failed(s.it, where, k_now);
            if (is(c, "running")) {  // what runs has not failed, whatever is told
                CHECK_FALSE(concerned.has_value());
                CHECK(counts_of(s.slots) == c.before);
                continue;
            }
            REQUIRE(concerned.has_value());
            CHECK(concerned->call.has_value() == c.has_call);
            CHECK_FALSE(bool(concerned->child));
            CHECK(counts_of(s.slots) == counts{0, 0, 0});
            CHECK_FALSE(s.slots.busy());
            // Of a fork that failed there is nobody to end.
            CHECK(s.slots.knows(s.it) == (where == child_slots::failed_at::start));
            // For a moment no other is tried.
            CHECK(s.slots.may_order_warm(k_now) == !c.is_warm);
            CHECK(s.slots.may_order_warm(k_now + milliseconds(100)));
        }
}

TEST_CASE("a child that ends is known no more, and whom it concerns is told") {
    for (const stage_case& c : stages()) {
        CAPTURE(c.name);
        scene s;
        c.reach(s);
        const auto concerned = s.slots.ended(s.it, k_now);
        REQUIRE(concerned.has_value());
        CHECK(concerned->call.has_value() == c.has_call);
        CHECK(concerned->child == (is(c, "running") ? child_id(5) : child_id()));
        CHECK(counts_of(s.slots) == counts{0, 0, 0});
        CHECK(s.slots.empty());
        CHECK_FALSE(s.slots.ended(s.it, k_now).has_value());
        // One that died while it was warm is replaced at once, one that never was is not.
        CHECK(s.slots.may_order_warm(k_now) == !(c.is_warm && is(c, "ordered")));
    }
}

TEST_CASE("a report of a child that was never ordered changes nothing") {
    child_slots slots(k_warm_wanted, k_to_start);
    slots.order_warm(any_descriptor(), k_now);
    for (const sequence_number never : {sequence_number(), slots.next(), sequence_number(~0ULL)}) {
        CHECK_FALSE(slots.knows(never));
        CHECK_FALSE(bool(slots.parked(never, process_of(300))));
        const child_slots::start begun = slots.started(never, process_of(300));
        CHECK_FALSE(begun.call.has_value());
        CHECK(begun.process.pid() == 300);
        CHECK_FALSE(slots.failed(never, child_slots::failed_at::fork, k_now).has_value());
        CHECK_FALSE(slots.ended(never, k_now).has_value());
        CHECK_FALSE(slots.forget(child_id()));
    }
    CHECK(counts_of(slots) == counts{1, 1, 0});
}

TEST_CASE("a call that is withdrawn is given back with its child; the session and request choose") {
    child_slots slots(0, k_to_start);
    for (const auto& [session, request] : {std::pair{1U, 1U}, {1U, 2U}, {2U, 1U}})
        slots.order_for_call(call_of(session, request), k_now);
    queued_spawn template_start = call_of(0, 0);
    template_start.becomes = generation_id(9);
    slots.order_for_call(std::move(template_start), k_now);
    CHECK(slots.withdraw(session_id(3), {}).empty());
    const auto one = slots.withdraw(session_id(1), request_id(2));
    REQUIRE(one.size() == 1);
    CHECK(one[0].sequence == sequence_number(2));
    CHECK_FALSE(bool(one[0].process));
    REQUIRE(one[0].call.has_value());
    CHECK(one[0].call->request_id == request_id(2));
    CHECK(slots.withdraw(session_id(1), {}).size() == 1);
    CHECK(counts_of(slots) == counts{2, 0, 0});
    // Of any session, but not the one that makes a template.
    CHECK(slots.withdraw({}, {}).size() == 1);
    CHECK(counts_of(slots) == counts{1, 0, 0});
    CHECK(slots.withdraw({}, {}).empty());
}

TEST_CASE("only a call that does not run yet can be withdrawn, and it brings what was told") {
    for (const stage_case& c : stages()) {
        CAPTURE(c.name);
        scene s;
        c.reach(s);
        const auto all = s.slots.withdraw({}, {});
        REQUIRE(all.size() == (c.has_call ? 1 : 0));
        if (all.empty()) {
            CHECK(counts_of(s.slots) == c.before);
            continue;
        }
        CHECK(bool(all[0].process) == is(c, "asked when it was parked"));
        CHECK(counts_of(s.slots) == counts{0, 0, 0});
        s.slots.drop(s.it);
        CHECK(s.slots.empty());
    }
}

TEST_CASE("a child that does not tell of itself in time is withdrawn") {
    for (const stage_case& c : stages()) {
        CAPTURE(c.name);
        scene s;
        c.reach(s);
        CHECK(s.slots.withdraw_late(k_now + k_to_start - milliseconds(1)).empty());
        const auto late = s.slots.withdraw_late(k_now + k_to_start);
        CHECK(late.size() == c.before.unstarted);
        if (!late.empty()) CHECK(late[0].call.has_value() == c.has_call);
        CHECK(s.slots.unstarted() == 0);
        CHECK(s.slots.warm() == (is(c, "parked") ? c.before.warm : 0));
        CHECK(s.slots.running() == c.before.running);
        CHECK(s.slots.withdraw_late(k_now + k_to_start).empty());
    }
}

TEST_CASE("the time of a warm child begins anew with its request") {
    scene s;
    s.order_warm();
    s.slots.ask_warm(call_of(1, 1), k_now + milliseconds(600));
    CHECK(s.slots.withdraw_late(k_now + k_to_start).empty());
    CHECK(s.slots.withdraw_late(k_now + milliseconds(600) + k_to_start).size() == 1);
}

TEST_CASE("when the template has gone only what runs is left") {
    for (const stage_case& c : stages()) {
        CAPTURE(c.name);
        scene s;
        c.reach(s);
        CHECK(s.slots.drop_unstarted().size() == (c.has_call ? 1 : 0));
        CHECK(counts_of(s.slots) == counts{0, 0, c.before.running});
        CHECK(s.slots.empty() == !is(c, "running"));
        CHECK(s.slots.forget(child_id(5)) == is(c, "running"));
        CHECK(s.slots.empty());
    }
}

TEST_CASE("warm children are asked in the order they were ordered in, parked or not") {
    child_slots slots(3, k_to_start);
    for (int i = 0; i < 3; ++i) slots.order_warm(any_descriptor(), k_now);
    (void)slots.parked(sequence_number(3), process_of(103));
    CHECK(counts_of(slots) == counts{2, 3, 0});
    CHECK_FALSE(slots.lacks_warm());
    slots.ask_warm(call_of(1, 1), k_now);
    CHECK(counts_of(slots) == counts{2, 2, 0});
    CHECK(slots.lacks_warm());
    slots.drop_warm();
    CHECK(counts_of(slots) == counts{1, 1, 0});
    slots.ask_warm(call_of(1, 2), k_now);
    CHECK(counts_of(slots) == counts{2, 0, 0});
    CHECK(slots.warm_channel() == -1);
    const child_slots::start third = slots.started(sequence_number(3), {});
    REQUIRE(third.call.has_value());
    CHECK(third.call->request_id == request_id(2));
    CHECK(third.process.pid() == 103);
}

TEST_CASE("one that left the pool from its middle leaves no place behind") {
    child_slots slots(3, k_to_start);
    for (int i = 0; i < 3; ++i) slots.order_warm(any_descriptor(), k_now);
    CHECK(slots.ended(sequence_number(2), k_now).has_value());
    CHECK(counts_of(slots) == counts{2, 2, 0});
    slots.ask_warm(call_of(1, 1), k_now);
    slots.ask_warm(call_of(1, 3), k_now);
    CHECK(slots.started(sequence_number(3), process_of(1)).call->request_id == request_id(3));
}

TEST_CASE("there is room for so many orders, and behind them for every warm child") {
    child_slots slots(k_warm_wanted, k_to_start);
    for (std::size_t i = 0; i < k_most_unstarted; ++i) {
        CHECK(slots.room());
        CHECK(slots.may_order_warm(k_now));
        slots.order_for_call(call_of(1, i + 1), k_now);
    }
    CHECK_FALSE(slots.room());
    CHECK_FALSE(slots.may_order_warm(k_now));
    CHECK(slots.lacks_warm());
    slots.order_warm(any_descriptor(), k_now);
    CHECK(slots.room());
    slots.ask_warm(call_of(1, 100), k_now);
    CHECK_FALSE(slots.room());
    CHECK(slots.ended(sequence_number(1), k_now).has_value());
    CHECK_FALSE(slots.room());
    CHECK(slots.ended(sequence_number(2), k_now).has_value());
    CHECK(slots.room());
}

TEST_CASE("a template that keeps none warm orders none ahead") {
    const child_slots slots(0, k_to_start);
    CHECK_FALSE(slots.lacks_warm());
    CHECK_FALSE(slots.may_order_warm(k_now));
    CHECK(slots.room());
}
