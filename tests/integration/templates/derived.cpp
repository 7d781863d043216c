// Templates derived from others, and what becomes of calls when their session ends.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/attributes/inspection.hpp"
#include "tests/integration/lifetimes/lifetimes_support.hpp"
#include "tests/integration/templates/template_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

std::string extension_of(raw_session& s, const std::string& name) {
    const answer a = call(s, call_of("state", {}, name));
    REQUIRE_MESSAGE(a.refused == failure{}, a.refused.message());
    const std::size_t at = a.bytes.find("extension ");
    return a.bytes.substr(at + 10, a.bytes.find('\n', at) - at - 10);
}

void reload(raw_session& s, const std::string& name) {
    v1::ClientMessage m;
    m.mutable_reload_template()->set_name(name);
    REQUIRE(failure_in(s.request(m)) == failure{});
}

pid_t pid_of(raw_session& s, const std::string& name) {
    const v1::TemplateInfo i = testing::template_info(s, name);
    for (const v1::GenerationInfo& g : i.generations())
        if (g.generation() == i.generation()) return g.pid();
    return 0;
}

void add_base_and_derived(raw_session& s, std::uint32_t warm = 0) {
    REQUIRE(failure_in(add_template(s)) == failure{});
    REQUIRE(failure_in(add_template(
                s, {.name = "d", .warm = warm, .from = "t", .payload = "one"})) == failure{});
}

void expect_no_process(const test_daemon& daemon) {
    const auto give_up = std::chrono::steady_clock::now() + k_patience;
    while (!test::children_of(daemon.pid()).empty())
        REQUIRE_MESSAGE(std::chrono::steady_clock::now() < give_up, "a process is left");
}

// A call of the template "h" (template_hostile) that has said `times` that it is ready.
struct ready_call {
    ready_call(raw_session& s, const std::string& entry, const v1::Lifetime& lifetime,
               int times = 1, const test_cgroup* cgroup = nullptr) {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        alive.reset(ends[0]);
        const unique_fd write_end(ends[1]);
        v1::SpawnRequest r = call_of(entry, {}, "h");
        *r.mutable_lifetime() = lifetime;
        map_descriptor(r, 1, 3);
        r.mutable_descriptors(0)->set_name("ready");
        std::vector<int> fds{write_end.get()};
        if (cgroup != nullptr) {
            r.set_cgroup_descriptor(2);
            fds.push_back(cgroup->descriptor());
        }
        child = s.spawn(r, fds);
        char byte;
        for (int i = 0; i < times; ++i) REQUIRE(::read(alive.get(), &byte, 1) == 1);
    }
    // Everybody who had the descriptor has ended.
    [[nodiscard]] bool all_end() const {
        char byte;
        return ::read(alive.get(), &byte, 1) == 0;
    }
    live_child child;
    unique_fd alive;
};

void add_hostile(raw_session& s, std::uint32_t warm) {
    v1::ClientMessage m = add_request({.name = "h", .warm = warm});
    m.mutable_add_template()->mutable_process()->mutable_exec()->set_path(
        helper_path("template_hostile"));
    REQUIRE(failure_in(s.request(m)) == failure{});
    info_until(
        s,
        [warm](const v1::TemplateInfo& i) {
            return i.generations(0).warm_pids_size() == static_cast<int>(warm);
        },
        "h");
}

}  // namespace

TEST_CASE("a derived template outlives the reload, the death and the removal of its base") {
    const subreaper mine;
    test_daemon daemon;
    raw_session s(daemon);
    std::uint32_t warm = 0;
    SUBCASE("forked when asked for") {}
    SUBCASE("warm") { warm = 2; }
    add_base_and_derived(s, warm);
    const pid_t derived = pid_of(s, "d");
    const sleeping_call living(s, call_of("sleep", {}, "d"));

    reload(s, "t");
    CHECK(extension_of(s, "t") == "none");
    CHECK(extension_of(s, "d") == "one");
    REQUIRE(::kill(pid_of(s, "t"), SIGKILL) == 0);
    info_until(s, [](const v1::TemplateInfo& i) {
        return i.restarts() == 1 && i.state() == v1::TEMPLATE_STATE_READY;
    });
    CHECK(extension_of(s, "d") == "one");
    // The one it was forked from, which drains since the reload.
    const v1::TemplateInfo both = testing::template_info(s);
    for (const v1::GenerationInfo& g : both.generations())
        if (g.state() == v1::TEMPLATE_STATE_DRAINING) REQUIRE(::kill(g.pid(), SIGKILL) == 0);
    const v1::TemplateInfo gone = info_until(s, [](const v1::TemplateInfo& i) {
        return i.generations_size() == 2 && i.generations(1).pid() == 0;
    });
    CHECK(gone.generations(1).children() == 1);  // the derived one
    CHECK(extension_of(s, "d") == "one");
    remove_template(s, "t");
    CHECK(extension_of(s, "d") == "one");
    CHECK(pid_of(s, "d") == derived);
    living.expect_exact_end(s);

    // Without its base it cannot be made again, and says so.
    v1::ClientMessage again;
    again.mutable_reload_template()->set_name("d");
    const failure f = failure_in(s.request(again));
    CHECK(f.step == step::template_name);
    CHECK(f.object == "t");
    CHECK(extension_of(s, "d") == "one");
    remove_template(s, "d");
    expect_no_process(daemon);
}

TEST_CASE("a derived template that dies is made again from its base, and told how it ended") {
    const subreaper mine;
    test_daemon daemon;
    raw_session s(daemon);
    add_base_and_derived(s);
    const sleeping_call living(s, call_of("sleep", {}, "d"));
    REQUIRE(::kill(pid_of(s, "d"), SIGKILL) == 0);
    const v1::TemplateInfo failed = info_until(
        s, [](const v1::TemplateInfo& i) { return i.state() == v1::TEMPLATE_STATE_FAILED; }, "d");
    CHECK(ipc::from_wire(failed.last_error()).detail == "it was killed by signal 9");
    info_until(
        s, [](const v1::TemplateInfo& i) { return i.state() == v1::TEMPLATE_STATE_READY; }, "d");
    CHECK(extension_of(s, "d") == "one");
    CHECK(testing::template_info(s, "d").generation() == 2);
    living.expect_exact_end(s);
    // A chain of them.
    REQUIRE(failure_in(add_template(s, {.name = "e", .from = "d", .payload = "two"})) == failure{});
    CHECK(extension_of(s, "e") == "two");
    reload(s, "d");
    CHECK(extension_of(s, "e") == "two");
    for (const char* name : {"t", "d", "e"}) remove_template(s, name);
    expect_no_process(daemon);
}

TEST_CASE("a derived template is refused what another would be") {
    const subreaper mine;
    test_daemon daemon;
    raw_session s(daemon);
    const failure alone = failure_in(add_template(s, {.name = "d", .from = "t"}));
    CHECK(alone.step == step::template_name);
    REQUIRE(failure_in(add_template(s)) == failure{});
    CHECK(failure_in(add_template(s, {.name = "t", .from = "t"})).step == step::template_name);
    v1::ClientMessage m = add_request({.name = "d", .from = "t"});
    m.mutable_add_template()->mutable_process()->mutable_call()->set_entry("nothing");
    const failure no_initializer = failure_in(s.request(m));
    CHECK(no_initializer.step == step::entry);
    CHECK(no_initializer.object == "nothing");
    const failure thrown =
        failure_in(add_template(s, {.name = "d", .from = "t", .payload = "throw"}));
    CHECK(thrown.detail == "the extension failed");
    m = add_request({.name = "d", .from = "t"});
    m.mutable_add_template()->mutable_process()->set_cwd_path("/no/such");
    CHECK(failure_in(s.request(m)).step == step::chdir);
    for (const char* name : {"t", "d"}) remove_template(s, name);
    expect_no_process(daemon);
}

TEST_CASE("a call of a session that ends gets its signal, and after its grace the other one") {
    for (const std::uint32_t warm : {0U, 1U}) {
        const subreaper mine;
        test_daemon daemon;
        raw_session observer(daemon);
        add_hostile(observer, warm);
        baseline before(observer);
        raw_session s(daemon);
        // SIGTERM is enough for one, and too little for the other.
        const ready_call polite(s, "ignore", ends_with(SIGUSR2, 3'600'000));
        const ready_call stubborn(s, "ignore", ends_with(SIGTERM, 100));
        const std::uint64_t waits[] = {post_wait(observer, polite.child.id),
                                       post_wait(observer, stubborn.child.id)};
        s.close();
        const auto replies = gather(observer, {waits[0], waits[1]});
        CHECK(replies.at(waits[0]).message.wait().exit().signal() == SIGUSR2);
        CHECK(replies.at(waits[1]).message.wait().exit().signal() == SIGKILL);
        CHECK(polite.all_end());
        CHECK(stubborn.all_end());
        info_until(
            observer,
            [warm](const v1::TemplateInfo& i) {
                return i.generations(0).warm_pids_size() == static_cast<int>(warm);
            },
            "h");
        before.expect_again();
    }
}

TEST_CASE("a call's process group and cgroup end with its session when they are meant") {
    for (const std::uint32_t warm : {0U, 1U}) {
        const subreaper mine;
        test_daemon daemon;
        raw_session observer(daemon);
        add_hostile(observer, warm);
        raw_session s(daemon);
        const ready_call group(s, "family", ends_with(SIGTERM, 3'600'000, v1::SIGNAL_TARGET_GROUP),
                               2);
        s.close();
        CHECK(group.all_end());
        std::optional<test_cgroup> cgroup = test_cgroup::create();
        if (!cgroup) continue;
        raw_session other(daemon);
        const ready_call in_cgroup(other, "family", ends_with(SIGTERM, 0, v1::SIGNAL_TARGET_CGROUP),
                                   2, &*cgroup);
        CHECK_FALSE(cgroup->read("cgroup.procs").empty());
        other.close();
        CHECK(in_cgroup.all_end());
        CHECK(cgroup->empties());
    }
}

TEST_CASE("a kept call outlives its session and its template, and is told to who asks") {
    for (const std::uint32_t warm : {0U, 1U}) {
        const subreaper mine;
        test_daemon daemon;
        raw_session observer(daemon);
        add_hostile(observer, warm);
        raw_session s(daemon);
        const ready_call one(s, "ignore", kept()), two(s, "ignore", kept());
        s.close();
        observer.stats_until([](const v1::StatsReply& st) { return st.sessions() == 1; });
        const v1::ListReply list = observer.list();
        int listed = 0;
        for (const v1::ChildInfo& c : list.children())
            if (c.template_name() == "h") {
                ++listed;
                CHECK(c.keep());
                CHECK(c.session() == 0);
            }
        CHECK(listed == 2);
        std::uint64_t wait = post_wait(observer, one.child.id);
        REQUIRE(ipc::pidfd_signal(one.child.pidfd.get(), SIGUSR1) == 0);
        CHECK(exit_of(observer, wait).signal() == SIGUSR1);
        remove_template(observer, "h");
        CHECK_FALSE(ipc::pidfd_wait(two.child.pidfd.get(), ipc::pidfd_event::ended, 0));
        wait = post_wait(observer, two.child.id);
        REQUIRE(ipc::pidfd_signal(two.child.pidfd.get(), SIGUSR2) == 0);
        CHECK(exit_of(observer, wait).signal() == SIGUSR2);
        expect_no_process(daemon);
    }
}
