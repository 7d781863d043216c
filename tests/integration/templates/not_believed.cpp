// What a template, or somebody with its control socket, tells and is not true.
#include <doctest/doctest.h>
#include <unistd.h>

#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/templates/template_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

v1::ClientMessage helper_template(const char* helper, const template_request& t = {}) {
    v1::ClientMessage m = add_request(t);
    m.mutable_add_template()->mutable_process()->mutable_exec()->set_path(helper_path(helper));
    return m;
}

// A call of a template that lies; what its reply says.
failure call_of_liar(raw_session& s, const std::string& lie, const std::string& victim = "0") {
    REQUIRE(failure_in(s.request(
                helper_template("template_liar", {.env = {{"LIAR", lie}, {"LIAR_VICTIM", victim}},
                                                  .call_timeout_ms = 2000}))) == failure{});
    return failure_in(s.reply_to(s.post_spawn(call_of("any"))));
}

}  // namespace

TEST_CASE("a pidfd of a foreign process is not taken for a child, and its process is not ended") {
    test_daemon daemon;
    raw_session neighbour(daemon);
    const live_child victim = neighbour.spawn(sleeper());
    {
        raw_session s(daemon);
        const failure f = call_of_liar(s, "foreign", std::to_string(victim.pid));
        CHECK(f.step != step::none);
        CHECK(template_info(s).last_error().step() ==
              static_cast<std::uint32_t>(step::child_start));
    }
    neighbour.spawn_true();
    CHECK_FALSE(ipc::pidfd_wait(victim.pidfd.get(), ipc::pidfd_event::ended, 0));
    REQUIRE(ipc::pidfd_signal(victim.pidfd.get(), SIGUSR1) == 0);
    CHECK(neighbour.await_exit(victim.id).signal() == SIGUSR1);
    CHECK(daemon.log().find("report_refused") != std::string::npos);
}

TEST_CASE("a descriptor that is no pidfd is not taken for a process") {
    subreaper mine;
    test_daemon daemon;
    raw_session s(daemon);
    const failure f = call_of_liar(s, "no_pidfd");
    CHECK(f.step == step::child_start);
    CHECK(f.error_number == ETIMEDOUT);
    raw_session(daemon).spawn_true();
}

TEST_CASE("a template of another version of cleanfork fails at its start, with what to do") {
    test_daemon daemon;
    raw_session s(daemon);
    const failure f =
        failure_in(s.request(helper_template("template_liar", {.env = {{"LIAR", "version"}}})));
    CHECK(f.step == step::template_start);
    CHECK(f.error_number == EPROTO);
    CHECK(f.detail.find("protocol 2") != std::string::npos);
    CHECK(f.detail.find("one version of cleanfork") != std::string::npos);
}

TEST_CASE("the end of a child that lives is not told, and its own end is exact") {
    subreaper mine;
    test_daemon daemon;
    raw_session s(daemon);
    REQUIRE(failure_in(s.request(helper_template(
                "template_liar", {.env = {{"LIAR", "alive"}}, .call_timeout_ms = 2000}))) ==
            failure{});
    const sleeping_call lives(s, call_of("any"));
    info_until(s, [](const v1::TemplateInfo& i) {
        return i.last_error().detail().find("end of a child that lives") != std::string::npos;
    });
    lives.expect_exact_end(s);
}

TEST_CASE("an entry that takes the control socket forges nobody's status") {
    test_daemon daemon;
    raw_session s(daemon);
    REQUIRE(failure_in(s.request(helper_template("template_hostile"))) == failure{});
    const sleeping_call sibling(s);
    const answer forged = call(s, call_of("forge_ends", {"16"}));
    if (forged.exit.code() == 250) {
        MESSAGE("not run: this account may not take the socket (pidfd_getfd)");
        return;
    }
    CHECK(forged.exit.code() == 16);
    s.spawn_true();
    CHECK_FALSE(s.exits.contains(sibling.child));
    sibling.expect_exact_end(s);
    // The template is not to blame.
    CHECK(call(s, call_of("exit", {"3"})).exit.code() == 3);
    CHECK(template_info(s).restarts() == 0);
    CHECK(daemon.log().find("report_refused") != std::string::npos);
}
