// Lifetimes and signals that are for a whole process group or cgroup.
#include <doctest/doctest.h>

#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/lifetimes/lifetimes_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

constexpr std::uint32_t k_long = 3'600'000;

void expect_forgotten(raw_session& observer) {
    observer.stats_until([](const v1::StatsReply& s) {
        return s.sessions() == 1 && s.children() == 0 && s.statuses() == 0;
    });
}

reply signal_to(raw_session& s, std::uint64_t child, int number, v1::SignalTarget target) {
    v1::ClientMessage m;
    m.mutable_signal()->set_child(child);
    m.mutable_signal()->set_signal(number);
    m.mutable_signal()->set_target(target);
    return s.request(m);
}

// Both ways the forkserver knows: with the kernel's feature, and without it.
std::vector<program_options> with_and_without(const char* feature) {
    program_options without;
    without.environment.push_back(std::string("CLEANFORK_DISABLE_FEATURES=") + feature);
    return {program_options{}, without};
}

}  // namespace

TEST_CASE("a lifetime for the group reaches every process of it") {
    for (const program_options& options : with_and_without("pidfd_signal_group")) {
        test_daemon daemon(options);
        raw_session observer(daemon);
        raw_session owner(daemon);
        telling_child c = spawn_telling(owner, {"end", "group", "stay"},
                                        ends_with(SIGTERM, k_long, v1::SIGNAL_TARGET_GROUP), 2);
        owner.close();
        CHECK(c.lines.next() == "TERM");
        CHECK(c.lines.next() == "TERM");
        CHECK(c.lines.at_end());
        expect_forgotten(observer);
    }
}

TEST_CASE("a group whose leader has gone still meets its lifetime") {
    test_daemon daemon;
    raw_session observer(daemon);
    raw_session owner(daemon);
    telling_child c = spawn_telling(owner, {"end", "group", "leave"},
                                    ends_with(SIGTERM, k_long, v1::SIGNAL_TARGET_GROUP), 1);
    CHECK(owner.await_exit(c.child.id).code() == 0);
    SUBCASE("the leader's exit was acknowledged") { owner.acknowledge({c.child.id}); }
    SUBCASE("it was not") {}
    CHECK(observer.list().children_size() == 1);
    owner.close();
    CHECK(c.lines.next() == "TERM");
    CHECK(c.lines.at_end());
    expect_forgotten(observer);
}

TEST_CASE("a group that ignores its signal is killed after the grace, leader or not") {
    test_daemon daemon;
    raw_session observer(daemon);
    raw_session owner(daemon);
    telling_child c = spawn_telling(owner, {"ignore", "group", "leave"},
                                    ends_with(SIGTERM, k_short_ms, v1::SIGNAL_TARGET_GROUP), 1);
    owner.await_exit(c.child.id);
    owner.close();
    CHECK(c.lines.next() == "TERM");
    CHECK(c.lines.at_end());
    expect_forgotten(observer);
}

TEST_CASE("a lifetime for the process leaves the rest of its group alone") {
    test_daemon daemon;
    raw_session observer(daemon);
    raw_session owner(daemon);
    telling_child c = spawn_telling(owner, {"end", "group", "stay"}, ends_with(SIGTERM, k_long), 2);
    const std::uint64_t waits = post_wait(observer, c.child.id);
    // The other process is reached through the group while the leader is there.
    CHECK(signal_to(owner, c.child.id, 0, v1::SIGNAL_TARGET_GROUP).message.has_signal());
    const pid_t group = c.child.pid;
    owner.close();
    CHECK(exit_of(observer, waits).code() == 3);
    CHECK(c.lines.next() == "TERM");
    expect_forgotten(observer);
    REQUIRE(::kill(-group, SIGUSR1) == 0);
    CHECK(c.lines.next() == "USR1");
    CHECK(c.lines.at_end());
}

TEST_CASE("a signal reaches the process, or the group, as asked") {
    for (const program_options& options : with_and_without("pidfd_signal_group")) {
        test_daemon daemon(options);
        raw_session s(daemon);
        telling_child c = spawn_telling(s, {"ignore", "group", "stay"}, ends_with(SIGKILL, 0), 2);
        CHECK(signal_to(s, c.child.id, SIGHUP, v1::SIGNAL_TARGET_PROCESS).message.has_signal());
        CHECK(c.lines.next() == "HUP");
        CHECK(signal_to(s, c.child.id, SIGUSR1, v1::SIGNAL_TARGET_GROUP).message.has_signal());
        CHECK(c.lines.next() == "USR1");
        CHECK(c.lines.next() == "USR1");
        CHECK(signal_to(s, c.child.id, SIGKILL, v1::SIGNAL_TARGET_GROUP).message.has_signal());
        CHECK(c.lines.at_end());
    }
}

TEST_CASE("a signal to a group that is none, or to an unknown child, is refused") {
    test_daemon daemon;
    raw_session s(daemon);
    const live_child leader = s.spawn(sleeper());
    v1::SpawnRequest r = sleeper();
    r.set_process_group(v1::PROCESS_GROUP_JOIN);
    r.set_process_group_id(leader.pid);
    const live_child member = s.spawn(r);
    CHECK(failure_in(signal_to(s, member.id, SIGTERM, v1::SIGNAL_TARGET_GROUP)).error_number ==
          EINVAL);
    CHECK(failure_in(signal_to(s, leader.id, SIGTERM, v1::SIGNAL_TARGET_CGROUP)).error_number ==
          EINVAL);
    CHECK(failure_in(signal_to(s, 4711, SIGTERM, v1::SIGNAL_TARGET_PROCESS)).error_number == ESRCH);
    CHECK(
        failure_in(signal_to(s, leader.id, SIGRTMAX + 1, v1::SIGNAL_TARGET_PROCESS)).error_number ==
        EINVAL);
    const failure f =
        failure_in(signal_to(s, leader.id, SIGTERM, static_cast<v1::SignalTarget>(9)));
    CHECK(f.step == step::signal);
    CHECK(f.error_number == EINVAL);
    s.spawn_true();
}

TEST_CASE("a lifetime for the cgroup reaches those who left session and group") {
    for (const program_options& options : with_and_without("cgroup_kill,clone_into_cgroup")) {
        const auto cgroup = test_cgroup::create();
        if (!cgroup) return;
        test_daemon daemon(options);
        raw_session observer(daemon);
        raw_session owner(daemon);
        telling_child c =
            spawn_telling(owner, {"ignore", "session", "stay"},
                          ends_with(SIGTERM, k_short_ms, v1::SIGNAL_TARGET_CGROUP), 2, &*cgroup);
        CHECK(cgroup->read("cgroup.procs").find(std::to_string(c.child.pid)) == 0);
        owner.close();
        CHECK(c.lines.next() == "TERM");
        CHECK(c.lines.next() == "TERM");
        CHECK(c.lines.at_end());
        CHECK(cgroup->empties());
        expect_forgotten(observer);
    }
}

TEST_CASE("a cgroup whose first process has gone still meets its lifetime") {
    const auto cgroup = test_cgroup::create();
    if (!cgroup) return;
    test_daemon daemon;
    raw_session observer(daemon);
    raw_session owner(daemon);
    telling_child c =
        spawn_telling(owner, {"end", "session", "leave"},
                      ends_with(SIGTERM, k_long, v1::SIGNAL_TARGET_CGROUP), 1, &*cgroup);
    owner.await_exit(c.child.id);
    owner.acknowledge({c.child.id});
    owner.close();
    CHECK(c.lines.next() == "TERM");
    CHECK(c.lines.at_end());
    expect_forgotten(observer);
}

TEST_CASE("a signal to the cgroup reaches all of it, and SIGKILL ends all at once") {
    for (const program_options& options : with_and_without("cgroup_kill")) {
        const auto cgroup = test_cgroup::create();
        if (!cgroup) return;
        test_daemon daemon(options);
        raw_session s(daemon);
        telling_child c =
            spawn_telling(s, {"ignore", "session", "stay"}, ends_with(SIGKILL, 0), 2, &*cgroup);
        CHECK(signal_to(s, c.child.id, SIGUSR1, v1::SIGNAL_TARGET_CGROUP).message.has_signal());
        CHECK(c.lines.next() == "USR1");
        CHECK(c.lines.next() == "USR1");
        CHECK(signal_to(s, c.child.id, SIGKILL, v1::SIGNAL_TARGET_CGROUP).message.has_signal());
        CHECK(c.lines.at_end());
        CHECK(s.await_exit(c.child.id).signal() == SIGKILL);
    }
}
