// Generations of a template: reloads without a gap, restarts, pools, and templates derived
// from others.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <set>
#include <thread>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/attributes/inspection.hpp"
#include "tests/integration/templates/template_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

// A template whose next start takes until it is let go, or told to fail.
class slow_start {
public:
    [[nodiscard]] v1::ClientMessage request(std::uint32_t warm = 0) const {
        v1::ClientMessage m = add_request({.env = {{"TEMPLATE_HOLD", path_}}, .warm = warm});
        m.mutable_add_template()->mutable_process()->mutable_exec()->set_path(
            helper_path("template_hostile"));
        return m;
    }
    void hold_the_next() const { REQUIRE(::mkfifo(path_.c_str(), 0600) == 0); }
    void let_go(const char* failing_with = "") const {
        std::ofstream(path_) << failing_with;
        ::unlink(path_.c_str());
    }

private:
    scratch_directory directory_;
    std::string path_ = directory_ / "hold";
};

std::uint64_t post(raw_session& s, v1::ClientMessage m) {
    m.set_request_id(s.next_id());
    const std::uint64_t id = m.request_id();
    REQUIRE(s.send(std::move(m)));
    return id;
}

v1::ClientMessage reload_request(const std::string& name = "t") {
    v1::ClientMessage m;
    m.mutable_reload_template()->set_name(name);
    return m;
}

v1::TemplateInfo await_state(raw_session& s, v1::TemplateState state) {
    return info_until(s, [state](const v1::TemplateInfo& i) { return i.state() == state; });
}

v1::TemplateInfo await_pool(raw_session& s, int warm, const std::string& name = "t") {
    return info_until(
        s,
        [warm](const v1::TemplateInfo& i) {
            return i.state() == v1::TEMPLATE_STATE_READY &&
                   i.generations(0).warm_pids_size() == warm;
        },
        name);
}

std::set<pid_t> pool_of(const v1::TemplateInfo& i) {
    const auto& pids = i.generations(0).warm_pids();
    return {pids.begin(), pids.end()};
}

bool is_there(pid_t pid) { return ::kill(pid, 0) == 0; }

// Waits until it has ended and was reaped.
bool goes(pid_t pid) {
    const auto give_up = std::chrono::steady_clock::now() + k_patience;
    while (is_there(pid))
        if (std::chrono::steady_clock::now() > give_up) return false;
    return true;
}

pid_t pid_of_template(raw_session& s) {
    const answer a = call(s, call_of("pid_of_template"));
    REQUIRE(a.refused == failure{});
    return std::stoi(a.bytes);
}

}  // namespace

TEST_CASE("a call takes the warm child that is being forked, and not a fork behind it") {
    const subreaper mine;
    test_daemon daemon;
    raw_session s(daemon);
    REQUIRE(failure_in(add_template(s, {.warm = 1})) == failure{});
    const pid_t pid = await_pool(s, 1).generations(0).pid();
    REQUIRE(::kill(pid, SIGSTOP) == 0);
    const auto is_idle = [](const v1::StatsReply& now) { return now.queued() == 0; };
    const sleeping_call first(s);  // the pool's; the next is ordered, and waits
    s.stats_until(is_idle);
    const std::uint64_t second = s.post_spawn(call_of("sleep"));
    s.stats_until(is_idle);
    REQUIRE(::kill(pid, SIGCONT) == 0);
    const reply r = s.reply_to(second);
    REQUIRE(failure_in(r) == failure{});
    const pid_t forked = r.message.spawn().spawned().pid();
    const std::set<pid_t> pool = pool_of(await_pool(s, 1));
    CHECK(forked < *pool.begin());  // numbers are given in turn
    ::kill(forked, SIGKILL);
    CHECK(s.await_exit(r.message.spawn().spawned().child()).signal() == SIGKILL);
    first.expect_exact_end(s);
}

TEST_CASE("calls run all through a reload, none fails, and the old generation drains") {
    const subreaper mine;
    test_daemon daemon;
    raw_session s(daemon), other(daemon);
    const slow_start start;
    std::uint32_t warm = 0;
    SUBCASE("forked when asked for") {}
    SUBCASE("warm") { warm = 2; }
    REQUIRE(failure_in(s.request(start.request(warm))) == failure{});
    const pid_t first = pid_of_template(s);
    await_pool(s, static_cast<int>(warm));
    baseline before(s);
    for (int round = 0; round < 3; ++round) {
        const sleeping_call old_one(s);
        const pid_t old_pid = pid_of_template(s);
        start.hold_the_next();
        const std::uint64_t reload = post(other, reload_request());
        // While the next one starts: the old one serves.
        for (int i = 0; i < 20; ++i) CHECK(pid_of_template(s) == old_pid);
        const v1::TemplateInfo during = testing::template_info(s);
        CHECK(during.state() == v1::TEMPLATE_STATE_READY);
        CHECK(during.generations_size() == 2);
        CHECK(during.generations(0).state() == v1::TEMPLATE_STATE_STARTING);
        // All through the moment of the change there are calls in flight.
        std::vector<std::uint64_t> requests;
        for (int i = 0; i < 100; ++i) {
            if (i == 50) start.let_go();
            requests.push_back(s.post_spawn(call_of("exit", {std::to_string(i)})));
        }
        for (const auto& [id, r] : gather(s, requests)) {
            REQUIRE_MESSAGE(failure_in(r) == failure{}, failure_in(r).message());
            const std::uint64_t child = r.message.spawn().spawned().child();
            CHECK(s.await_exit(child).code() == id - requests[0]);
            s.acknowledge({child});
        }
        CHECK(failure_in(other.reply_to(reload)) == failure{});
        CHECK(pid_of_template(s) != old_pid);
        const v1::TemplateInfo after = info_until(s, [](const v1::TemplateInfo& i) {
            return i.generations_size() == 2 &&
                   i.generations(1).state() == v1::TEMPLATE_STATE_DRAINING &&
                   i.generations(1).children() == 1;
        });
        CHECK(after.generations(1).warm_pids_size() == 0);
        old_one.expect_exact_end(s);
        info_until(s, [](const v1::TemplateInfo& i) { return i.generations_size() == 1; });
        CHECK(goes(old_pid));
    }
    CHECK(goes(first));
    await_pool(s, static_cast<int>(warm));
    before.expect_again();
}

TEST_CASE("a template is added unless it is there: of two who both need it one starts it") {
    test_daemon daemon;
    raw_session s(daemon), other(daemon), third(daemon);
    const slow_start start;
    const auto unless_there = [&start](bool no_wait = false) {
        v1::ClientMessage m = start.request();
        m.mutable_add_template()->set_unless_there(true);
        m.mutable_add_template()->set_no_wait(no_wait);
        return m;
    };
    start.hold_the_next();
    const std::uint64_t first = post(s, unless_there());
    await_state(s, v1::TEMPLATE_STATE_STARTING);
    const std::uint64_t second = post(other, unless_there());
    // Answered at once, and nobody else is by it.
    const reply at_once = third.request(unless_there(true));
    REQUIRE(failure_in(at_once) == failure{});
    CHECK(at_once.message.add_template().was_there());
    CHECK(at_once.message.add_template().info().state() == v1::TEMPLATE_STATE_STARTING);

    SUBCASE("and both have it") {
        start.let_go();
        const reply one = s.reply_to(first), two = other.reply_to(second);
        REQUIRE(failure_in(one) == failure{});
        REQUIRE(failure_in(two) == failure{});
        CHECK_FALSE(one.message.add_template().was_there());
        CHECK(two.message.add_template().was_there());
        const v1::TemplateInfo& info = two.message.add_template().info();
        CHECK(info.state() == v1::TEMPLATE_STATE_READY);
        CHECK(info.generation() == 1);
        const pid_t pid = pid_of_template(s);
        const reply late = third.request(unless_there());
        CHECK(late.message.add_template().was_there());
        CHECK(late.message.add_template().info().generations(0).pid() == pid);
        // Without the word it is the next generation, as ever.
        CHECK(failure_in(third.request(start.request())) == failure{});
        CHECK(testing::template_info(s).generation() == 2);
    }
    SUBCASE("and both learn that it failed; the next one tries again") {
        start.let_go("no model");
        CHECK(failure_in(s.reply_to(first)).detail.find("no model") != std::string::npos);
        CHECK(failure_in(other.reply_to(second)).detail.find("no model") != std::string::npos);
        const reply again = third.request(unless_there());
        REQUIRE(failure_in(again) == failure{});
        CHECK_FALSE(again.message.add_template().was_there());
        CHECK(again.message.add_template().info().generation() == 2);
    }
}

TEST_CASE("a next generation that fails leaves the old one, and says why") {
    test_daemon daemon;
    raw_session s(daemon);
    const slow_start start;
    REQUIRE(failure_in(s.request(start.request())) == failure{});
    const pid_t pid = pid_of_template(s);
    start.hold_the_next();
    const std::uint64_t reload = post(s, reload_request());
    info_until(s, [](const v1::TemplateInfo& i) { return i.generations_size() == 2; });
    start.let_go("no luck with generation two");
    const failure f = failure_in(s.reply_to(reload));
    CHECK(f.step == step::template_start);
    CHECK(f.detail == "no luck with generation two");
    const v1::TemplateInfo i = testing::template_info(s);
    CHECK(i.state() == v1::TEMPLATE_STATE_READY);
    CHECK(i.generation() == 1);
    CHECK(ipc::from_wire(i.last_error()).detail == f.detail);
    CHECK(pid_of_template(s) == pid);
    // So does one of another program, added in its place; and the one after that serves.
    v1::ClientMessage other = start.request();
    other.mutable_add_template()->mutable_process()->mutable_exec()->set_path("/no/such/program");
    CHECK(failure_in(s.request(other)).step == step::exec);
    CHECK(pid_of_template(s) == pid);
    REQUIRE(failure_in(s.request(start.request())) == failure{});
    CHECK(pid_of_template(s) != pid);
    CHECK(testing::template_info(s).generation() == 4);
    CHECK(testing::template_info(s).last_error().step() == 0);
}

TEST_CASE("a reload that is asked for again, or undone by a removal, answers everybody") {
    test_daemon daemon;
    raw_session s(daemon);
    const slow_start start;
    REQUIRE(failure_in(s.request(start.request())) == failure{});
    start.hold_the_next();
    std::vector<std::uint64_t> asked{post(s, reload_request()), post(s, reload_request()),
                                     post(s, start.request()), post(s, reload_request())};
    info_until(s, [](const v1::TemplateInfo& i) {
        return i.generations_size() == 2 && i.generations(0).generation() == 5;
    });
    start.let_go();
    for (const auto& [id, r] : gather(s, asked)) CHECK(failure_in(r) == failure{});
    CHECK(testing::template_info(s).generation() == 5);
    start.hold_the_next();
    asked = {post(s, reload_request()), post(s, reload_request())};
    v1::ClientMessage m;
    m.mutable_remove_template()->set_name("t");
    asked.push_back(post(s, m));
    const auto replies = gather(s, asked);
    CHECK(failure_in(replies.at(asked[0])).detail == "it was removed");
    CHECK(failure_in(replies.at(asked[1])).detail == "it was removed");
    CHECK(failure_in(replies.at(asked[2])) == failure{});
    CHECK(call(s, call_of("nothing")).refused.step == step::template_name);
}

TEST_CASE("a removed template ends with its last child, and one of its name is another") {
    const subreaper mine;
    test_daemon daemon;
    raw_session s(daemon);
    baseline before = after_a_first_template(daemon, s);
    for (const std::uint32_t warm : {0U, 3U}) {
        REQUIRE(failure_in(add_template(s, {.warm = warm})) == failure{});
        const v1::TemplateInfo old = await_pool(s, static_cast<int>(warm));
        const sleeping_call one(s), two(s);
        remove_template(s);
        CHECK(call(s, call_of("nothing")).refused.step == step::template_name);
        REQUIRE(failure_in(add_template(s, {.warm = warm})) == failure{});
        CHECK(call(s, call_of("exit", {"3"})).exit.code() == 3);
        CHECK(testing::template_info(s).generation() == 1);
        one.expect_exact_end(s);
        CHECK(is_there(old.generations(0).pid()));
        two.expect_exact_end(s);
        CHECK(goes(old.generations(0).pid()));
        remove_template(s);
        before.expect_again();
    }
}

TEST_CASE("a template that dies is started again, later each time; its children live on") {
    const subreaper mine;
    test_daemon daemon;
    raw_session s(daemon);
    REQUIRE(failure_in(add_template(s, {.warm = 1})) == failure{});
    std::vector<sleeping_call> living;
    std::uint64_t longest = 0;
    for (std::uint64_t restart = 1; restart <= 3; ++restart) {
        living.emplace_back(s);
        const v1::TemplateInfo i = await_pool(s, 1);
        REQUIRE(::kill(i.generations(0).pid(), SIGKILL) == 0);
        const v1::TemplateInfo failed = await_state(s, v1::TEMPLATE_STATE_FAILED);
        CHECK(ipc::from_wire(failed.last_error()).detail == "it was killed by signal 9");
        // Twice as long as the last time, of which some may be over.
        CHECK(failed.retry_in_ms() <= 100U << (restart - 1));
        longest = std::max(longest, failed.retry_in_ms());
        const failure f = call(s, call_of("nothing")).refused;
        if (f.step != step::none) CHECK(f.detail.find("killed by signal 9") != std::string::npos);
        info_until(s, [restart](const v1::TemplateInfo& t) { return t.restarts() == restart; });
        await_pool(s, 1);
        CHECK(call(s, call_of("exit", {"3"})).exit.code() == 3);
    }
    CHECK(longest > 100);
    for (const sleeping_call& one : living) one.expect_exact_end(s);
    CHECK(info_until(s, [](const v1::TemplateInfo& t) {
              return t.generations_size() == 1;
          }).generation() == 4);
}

TEST_CASE("a pool is refilled, survives a burst and its own dead, and goes with its generation") {
    const subreaper mine;
    test_daemon daemon;
    raw_session s(daemon);
    const std::uint32_t warm = 4;
    REQUIRE(failure_in(add_template(s, {.warm = warm})) == failure{});
    std::set<pid_t> seen = pool_of(await_pool(s, 4));
    CHECK(seen.size() == 4);
    baseline before(s);

    // One that is taken is a parked one.
    const reply r = s.reply_to(s.post_spawn(call_of("nothing")));
    const v1::Spawned& spawned = r.message.spawn().spawned();
    CHECK(seen.contains(spawned.pid()));
    s.await_exit(spawned.child());
    s.acknowledge({spawned.child()});
    await_pool(s, 4);

    // A burst of ten times the pool: nobody waits for a refill, nobody fails.
    std::vector<std::uint64_t> requests;
    for (int i = 0; i < 40; ++i) requests.push_back(s.post_spawn(call_of("exit", {"5"})));
    for (const auto& [id, got] : gather(s, requests)) {
        REQUIRE(failure_in(got) == failure{});
        const std::uint64_t child = got.message.spawn().spawned().child();
        CHECK(s.await_exit(child).code() == 5);
        s.acknowledge({child});
    }
    const std::set<pid_t> full = pool_of(await_pool(s, 4));

    // The dead are replaced, whoever killed them, and no call is given to one.
    for (const pid_t pid : full) REQUIRE(::kill(pid, SIGKILL) == 0);
    const v1::TemplateInfo again = info_until(s, [&full](const v1::TemplateInfo& i) {
        const std::set<pid_t> now = pool_of(i);
        return now.size() == 4 &&
               std::none_of(now.begin(), now.end(), [&](pid_t p) { return full.contains(p); });
    });
    CHECK(again.generation() == 1);
    CHECK(call(s, call_of("exit", {"5"})).exit.code() == 5);

    // A reload retires it, and so do other options: then the pool is of the new size.
    const std::set<pid_t> old = pool_of(await_pool(s, 4));
    REQUIRE(failure_in(s.request(reload_request())) == failure{});
    const std::set<pid_t> fresh = pool_of(await_pool(s, 4));
    REQUIRE(failure_in(add_template(s, {.warm = 2})) == failure{});
    const std::set<pid_t> fewer = pool_of(await_pool(s, 2));
    info_until(s, [](const v1::TemplateInfo& i) { return i.generations_size() == 1; });
    for (const auto& retired : {old, fresh})
        for (const pid_t pid : retired) {
            CHECK_FALSE(fewer.contains(pid));
            CHECK(goes(pid));
        }
    REQUIRE(failure_in(add_template(s, {.warm = 4})) == failure{});
    await_pool(s, 4);
    info_until(s, [](const v1::TemplateInfo& i) { return i.generations_size() == 1; });
    before.expect_again();
}
