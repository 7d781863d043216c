// Calls that have not begun, or never will: children that stop or die before they read their
// request, templates that die at the fork, callers that leave, take back, or shut down.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <optional>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/attributes/inspection.hpp"
#include "tests/integration/templates/template_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

using clock_type = std::chrono::steady_clock;

// For a child that will not begin to read its request; others do, also on a slow machine.
const auto k_call_timeout_ms =
    static_cast<std::uint32_t>(test::scaled(std::chrono::seconds(2)).count());

template_request with_atfork(const char* what, std::uint32_t warm, std::uint32_t timeout_ms) {
    return {.env = {{"TEMPLATE_ATFORK", what}}, .warm = warm, .call_timeout_ms = timeout_ms};
}

// A template that starts for as long as nobody has opened its FIFO for writing.
class held_template {
public:
    held_template() { REQUIRE(::mkfifo(path_.c_str(), 0600) == 0); }
    [[nodiscard]] v1::ClientMessage request() const {
        v1::ClientMessage m = add_request({.env = {{"TEMPLATE_HOLD", path_}}});
        m.mutable_add_template()->mutable_process()->mutable_exec()->set_path(
            helper_path("template_hostile"));
        m.mutable_add_template()->set_no_wait(true);
        return m;
    }
    void let_go() const { std::ofstream(path_).flush(); }

private:
    scratch_directory directory_;
    std::string path_ = directory_ / "hold";
};

bool cancels(raw_session& s, std::uint64_t request) {
    v1::ClientMessage m;
    m.mutable_cancel()->set_request_id(request);
    const reply r = s.request(m);
    REQUIRE(r.message.has_cancel());
    return r.message.cancel().cancelled();
}

// The call is answered, and so is the request to cancel it.
void check_cancelled(raw_session& s, std::uint64_t call) {
    v1::ClientMessage m;
    m.set_request_id(s.next_id());
    m.mutable_cancel()->set_request_id(call);
    const std::uint64_t cancel = m.request_id();
    REQUIRE(s.send(std::move(m)));
    const auto replies = gather(s, {call, cancel});
    CHECK(replies.at(cancel).message.cancel().cancelled());
    const failure f = failure_in(replies.at(call));
    CHECK(f.step == step::queue);
    CHECK(f.error_number == ECANCELED);
    CHECK_FALSE(cancels(s, call));
}

// A forkserver that has had a template, and what it then has.
struct observed_daemon {
    void expect_nothing_left() {
        before.expect_again();
        const auto give_up = clock_type::now() + k_patience;
        while (!test::children_of(daemon.pid()).empty())
            REQUIRE_MESSAGE(clock_type::now() < give_up, "a process or a zombie is left");
        observer.spawn_true();
    }
    subreaper mine;
    test_daemon daemon;
    raw_session observer{daemon};
    baseline before = after_a_first_template(daemon, observer);
};

// Calls at every stage, in a session of their own: waiting for a template that starts (t),
// ordered of one whose children stop before they read (stops), and running (runs).
struct calls_in_all_stages {
    explicit calls_in_all_stages(observed_daemon& d) : s(d.daemon) {
        REQUIRE(s.request(hold.request()).message.has_add_template());
        template_request stops = with_atfork("child_stops", 0, 0);
        stops.name = "stops";
        REQUIRE(failure_in(add_template(s, stops)) == failure{});
        REQUIRE(failure_in(add_template(s, {.name = "runs", .warm = 1})) == failure{});
        for (int i = 0; i < 3; ++i) {
            waiting.push_back(s.post_spawn(call_of("nothing")));
            ordered.push_back(s.post_spawn(call_of("nothing", {}, "stops")));
            v1::SpawnRequest sleep = call_of("sleep", {}, "runs");
            sleep.mutable_lifetime()->set_grace_ms(3'600'000);
            running.push_back(s.post_spawn(sleep));
        }
        for (auto& [id, got] : gather(s, running)) {
            REQUIRE(got.message.spawn().has_spawned());
            children.push_back(std::move(got.descriptors.at(0)));
        }
        info_until(s, [](const v1::TemplateInfo& i) { return i.waiting() == 3; });
    }
    held_template hold;
    raw_session s;
    std::vector<std::uint64_t> waiting, ordered, running;
    std::vector<unique_fd> children;
};

}  // namespace

TEST_CASE("a child that never reads its request is killed after the template's time for it") {
    for (const std::uint32_t warm : {0U, 2U}) {
        observed_daemon d;
        raw_session s(d.daemon);
        REQUIRE(failure_in(add_template(s, with_atfork("child_stops", warm, 200))) == failure{});
        const auto begin = clock_type::now();
        std::vector<std::uint64_t> requests;
        for (int i = 0; i < 5; ++i) requests.push_back(s.post_spawn(call_of("nothing")));
        for (const auto& [id, r] : gather(s, requests)) {
            const failure f = failure_in(r);
            CHECK(f.step == step::child_start);
            CHECK(f.error_number == ETIMEDOUT);
            CHECK(f.detail.find("200 ms") != std::string::npos);
        }
        const auto took = clock_type::now() - begin;
        CHECK(took >= std::chrono::milliseconds(200));
        CHECK(took < k_patience);
        CHECK(testing::template_info(s).state() == v1::TEMPLATE_STATE_READY);
        remove_template(s);
        s.close();
        d.expect_nothing_left();
    }
}

TEST_CASE("a child that dies before it reads its request is told as that") {
    for (const std::uint32_t warm : {0U, 2U}) {
        observed_daemon d;
        raw_session s(d.daemon);
        REQUIRE(failure_in(add_template(s, with_atfork("child_dies", warm, 0))) == failure{});
        for (int i = 0; i < 5; ++i) {
            const failure f = call(s, call_of("nothing")).refused;
            CHECK(f.step == step::child_start);
            CHECK(f.detail.find("was killed by signal 9 before it ran") != std::string::npos);
        }
        CHECK(testing::template_info(s).state() == v1::TEMPLATE_STATE_READY);
        remove_template(s);
        s.close();
        d.expect_nothing_left();
    }
}

TEST_CASE("a template that dies at each fork fails each call in time, and is started again") {
    for (const char* when : {"die_before", "die_after"}) {
        observed_daemon d;
        raw_session s(d.daemon);
        REQUIRE(failure_in(add_template(s, with_atfork(when, 0, k_call_timeout_ms))) == failure{});
        std::uint64_t served = 0;
        for (std::uint64_t i = 1; i <= 3; ++i) {
            const answer a = call(s, call_of("exit", {"7"}));
            if (a.refused.step == step::none) {
                CHECK(a.exit.code() == 7);  // the child was forked, and is well
                ++served;
            } else {
                CHECK(a.refused.step == step::fork);
                CHECK_FALSE(a.refused.detail.empty());
            }
            info_until(s, [i](const v1::TemplateInfo& t) {
                return t.restarts() == i && t.state() == v1::TEMPLATE_STATE_READY;
            });
        }
        CHECK(served == (when == std::string("die_after") ? 3 : 0));
        remove_template(s);
        s.close();
        d.expect_nothing_left();
    }
}

TEST_CASE("a pool whose children die as they are forked does not keep the forkserver busy") {
    observed_daemon d;
    raw_session s(d.daemon);
    REQUIRE(failure_in(add_template(s, with_atfork("child_dies", 4, 0))) == failure{});
    const pid_t pid = testing::template_info(s).generations(0).pid();
    // Page faults of what it has reaped: as many as forks, times some dozens.
    const auto faults = [pid] {
        std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
        std::string word;
        for (int i = 0; i < 11; ++i) in >> word;
        return std::stoull(word);
    };
    const auto at_first = faults();
    for (int i = 0; i < 50; ++i) CHECK(call(s, call_of("nothing")).refused.step != step::none);
    const auto of_calls = faults() - at_first;
    REQUIRE(of_calls > 0);
    // Half a second has five pauses with a pool of four after each; without one, hundreds.
    const auto before = faults();
    const auto end = clock_type::now() + std::chrono::milliseconds(500);
    while (clock_type::now() < end) testing::template_info(s);
    const auto of_pause = faults() - before;
    CHECK(of_pause < of_calls);
    remove_template(s);
    s.close();
    d.expect_nothing_left();
}

TEST_CASE("a session that ends at any stage of its calls leaves nothing of them") {
    observed_daemon d;
    for (int i = 0; i < 5; ++i) {
        calls_in_all_stages all(d);
        all.s.close();
        for (const unique_fd& child : all.children)
            CHECK(ipc::pidfd_wait(child.get(), ipc::pidfd_event::ended, k_patience_ms));
        // Of what had not begun nothing comes to be.
        all.hold.let_go();
        const v1::TemplateInfo t = info_until(d.observer, [](const v1::TemplateInfo& info) {
            return info.state() == v1::TEMPLATE_STATE_READY;
        });
        CHECK(t.waiting() == 0);
        for (const char* name : {"t", "stops", "runs"}) {
            v1::ClientMessage m;
            m.mutable_remove_template()->set_name(name);
            CHECK(failure_in(d.observer.request(m)) == failure{});
        }
        d.expect_nothing_left();
    }
}

TEST_CASE("a call is cancelled while it waits or its child has not begun, and not after") {
    observed_daemon d;
    calls_in_all_stages all(d);
    for (const auto& requests : {all.waiting, all.ordered}) {
        check_cancelled(all.s, requests[1]);
    }
    for (const std::uint64_t r : all.running) CHECK_FALSE(cancels(all.s, r));
    CHECK_FALSE(cancels(all.s, 1'000'000));
    all.hold.let_go();
    for (const auto& [id, r] : gather(all.s, {all.waiting[0], all.waiting[2]}))
        CHECK(failure_in(r) == failure{});
    for (const unique_fd& child : all.children)
        CHECK_FALSE(ipc::pidfd_wait(child.get(), ipc::pidfd_event::ended, 0));
    for (const char* name : {"t", "stops", "runs"}) {
        v1::ClientMessage m;
        m.mutable_remove_template()->set_name(name);
        CHECK(failure_in(all.s.request(m)) == failure{});
    }
    all.s.close();
    d.expect_nothing_left();
}

TEST_CASE("a forkserver that ends answers the calls that have not begun, and ends the others") {
    observed_daemon d;
    calls_in_all_stages all(d);
    d.daemon.signal(SIGTERM);
    std::vector<std::uint64_t> unstarted = all.waiting;
    unstarted.insert(unstarted.end(), all.ordered.begin(), all.ordered.end());
    for (const auto& [id, r] : gather(all.s, unstarted)) {
        const failure f = failure_in(r);
        CHECK(f.step == step::shutdown);
        CHECK(f.error_number == ESHUTDOWN);
    }
    CHECK(d.daemon.wait() == 0);
    for (const unique_fd& child : all.children)
        CHECK(ipc::pidfd_wait(child.get(), ipc::pidfd_event::ended, 0));
    CHECK(all.s.ends());
    // What the forkserver had not reaped when it ended has come to this process.
    const auto give_up = clock_type::now() + k_patience;
    while (!test::children_of(::getpid()).empty()) {
        subreaper::reap();
        REQUIRE_MESSAGE(clock_type::now() < give_up, "a process of a template is left");
    }
}

TEST_CASE("calls wait for a template that starts, and run when it is ready, or learn why not") {
    observed_daemon d;
    raw_session s(d.daemon);
    for (const bool well : {true, false}) {
        const held_template hold;
        REQUIRE(s.request(hold.request()).message.has_add_template());
        std::vector<std::uint64_t> requests;
        for (int i = 0; i < 200; ++i)
            requests.push_back(s.post_spawn(call_of("exit", {std::to_string(i)})));
        info_until(s, [](const v1::TemplateInfo& i) {
            return i.waiting() == 200 && i.state() == v1::TEMPLATE_STATE_STARTING;
        });
        if (well)
            hold.let_go();
        else
            REQUIRE(::kill(testing::template_info(s).generations(0).pid(), SIGKILL) == 0);
        for (const auto& [id, r] : gather(s, requests)) {
            const failure f = failure_in(r);
            if (!well) {
                CHECK(f.step == step::template_start);
                CHECK(f.detail.find("killed by signal 9 before it was ready") != std::string::npos);
                continue;
            }
            REQUIRE(f == failure{});
            const std::uint64_t child = r.message.spawn().spawned().child();
            CHECK(s.await_exit(child).code() == id - requests[0]);
            s.acknowledge({child});
        }
        remove_template(s);
    }
    // One that may wait no longer than so long is told that.
    const held_template hold;
    REQUIRE(s.request(hold.request()).message.has_add_template());
    v1::SpawnRequest hasty = call_of("nothing");
    hasty.set_queue_timeout_ns(50'000'000);
    const failure late = failure_in(s.reply_to(s.post_spawn(hasty)));
    CHECK(late.step == step::queue);
    CHECK(late.error_number == ETIMEDOUT);
    remove_template(s);
    s.close();
    d.expect_nothing_left();
}
