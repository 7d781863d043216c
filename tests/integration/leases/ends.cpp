// How leases end that are not used: without a race, and with nothing left.
#include <doctest/doctest.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "tests/integration/leases/lease_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

using ipc::lease_word_kind;

void add(raw_session& s, const template_request& t = {.warm = 2}) {
    REQUIRE(failure_in(add_template(s, t)) == failure{});
}

void reload(raw_session& s, const std::string& name = "t") {
    v1::ClientMessage m;
    m.mutable_reload_template()->set_name(name);
    REQUIRE(failure_in(s.request(m)) == failure{});
}

// It waits no more, and no call reaches it.
void expect_revoked(raw_session& s, const raw_lease& l) {
    CHECK(l.call("nothing") == EPIPE);
    CHECK(l.ends());
    CHECK(s.await_exit(l.child).code() == 0);
    s.acknowledge({l.child});
}

v1::SpawnRequest kept_lease() {
    v1::SpawnRequest r = lease_request();
    r.mutable_lifetime()->set_keep(true);
    return r;
}

}  // namespace

TEST_CASE("a lease ends with what it was granted for") {
    test_daemon daemon;
    raw_session s(daemon);
    add(s);
    const raw_lease l = lease_child(s);
    REQUIRE(l.refused == failure{});
    SUBCASE("its generation is replaced") {
        reload(s);
        CHECK(template_info(s).generation() == 2);
    }
    SUBCASE("its template is removed") { remove_template(s); }
    SUBCASE("its session has another base") {
        v1::ClientMessage m;
        m.mutable_update_base()->mutable_base()->add_environment("A=1");
        REQUIRE(failure_in(s.request(m)) == failure{});
    }
    SUBCASE("its template is killed") {
        ::kill(template_info(s).generations(0).pid(), SIGKILL);
        REQUIRE(l.ends());
    }
    expect_revoked(s, l);
    if (listed(s, l.child)) CHECK_FALSE(listed(s, l.child)->leased());
}

TEST_CASE("a call that was sent before its lease was taken back runs") {
    test_daemon daemon;
    raw_session s(daemon);
    add(s);
    const raw_lease l = lease_child(s);
    l.stop();
    REQUIRE(l.call("exit", {"5"}) == 0);
    reload(s);
    CHECK_FALSE(l.ended());
    l.go_on();
    CHECK(l.word().word.kind == lease_word_kind::begins);
    CHECK(s.await_exit(l.child).code() == 5);
}

TEST_CASE("a template that becomes unclean after the lease leases nobody") {
    test_daemon daemon;
    raw_session s(daemon);
    const std::string file = daemon.directory() / "misbehave";
    add(s, {.env = {{"TEMPLATE_MISBEHAVE", file}}, .warm = 1});
    const raw_lease l = lease_child(s);
    REQUIRE(l.refused == failure{});
    info_until(s, [](const v1::TemplateInfo& i) { return i.generations(0).warm_pids_size() == 1; });
    std::ofstream(file) << "socket";
    // The warm child, then one whose fork leaves the socket, then the proof.
    failure last;
    for (int i = 0; i < 3 && last.step == step::none; ++i)
        last = call(s, call_of("nothing")).refused;
    info_until(s,
               [](const v1::TemplateInfo& i) { return i.state() == v1::TEMPLATE_STATE_REFUSED; });
    expect_revoked(s, l);
}

TEST_CASE("a derived template's leases are its own") {
    test_daemon daemon;
    raw_session s(daemon);
    add(s);
    add(s, {.name = "d", .warm = 1, .from = "t", .payload = "more"});
    const raw_lease l = lease_child(s, lease_request("d"));
    REQUIRE(l.refused == failure{});
    reload(s, "t");
    CHECK_FALSE(l.ended());
    SUBCASE("it is used") {
        REQUIRE(l.call("state") == 0);
        CHECK(l.word().word.kind == lease_word_kind::begins);
        CHECK(s.await_exit(l.child).code() == 0);
    }
    SUBCASE("it is reloaded") {
        reload(s, "d");
        expect_revoked(s, l);
    }
}

TEST_CASE("a lease that nobody uses is taken back after a while") {
    test_daemon daemon({.args = {"--lease-idle", "50"}});
    raw_session s(daemon);
    add(s);
    const raw_lease one = lease_child(s), two = lease_child(s);
    REQUIRE(two.refused == failure{});
    for (const raw_lease* l : {&one, &two}) {
        CHECK(l->ends());
        expect_revoked(s, *l);
    }
}

TEST_CASE("two sessions have their shares, and one alone has all") {
    test_daemon daemon;
    raw_session a(daemon), b(daemon);
    add(a);
    const raw_lease one = lease_child(a), two = lease_child(a);
    REQUIRE(two.refused == failure{});
    const raw_lease other = lease_child(b);
    CHECK(other.refused == failure{});
    expect_revoked(a, one);
    CHECK_FALSE(two.ended());
    CHECK(lease_child(a).refused.error_number == EDQUOT);
    CHECK(lease_child(b).refused.error_number == EDQUOT);
}

TEST_CASE("leases count, never take more than half, and give way") {
    test_daemon daemon({.args = {"--max-children", "4"}});
    raw_session s(daemon);
    add(s, {.warm = 4});
    const raw_lease one = lease_child(s), two = lease_child(s);
    REQUIRE(two.refused == failure{});
    CHECK(lease_child(s).refused.error_number == EDQUOT);
    const live_child third = s.spawn(sleeper()), fourth = s.spawn(sleeper());
    CHECK_FALSE(two.ended());
    const live_child fifth = s.spawn(sleeper());  // for which they have made room
    expect_revoked(s, one);
    expect_revoked(s, two);
    const live_child sixth = s.spawn(sleeper());
    CHECK(s.spawn_failure(sleeper()).error_number == EDQUOT);
}

TEST_CASE("the end of its session ends a lease, and leaves no status") {
    test_daemon daemon;
    raw_session observer(daemon);
    add(observer);
    const auto is_full = [](const v1::TemplateInfo& i) {
        return i.generations(0).warm_pids_size() == 2;
    };
    info_until(observer, is_full);
    baseline before(observer);
    std::optional<raw_session> s(std::in_place, daemon);
    SUBCASE("its child would be ended") {
        const raw_lease l = lease_child(*s);
        s.reset();
        CHECK(l.ends());
        CHECK(l.call("nothing") == EPIPE);
    }
    SUBCASE("its child would be kept") {
        const raw_lease l = lease_child(*s, kept_lease());
        s.reset();
        CHECK(l.ends());
    }
    info_until(observer, is_full);
    before.expect_again();
    CHECK(observer.list().children_size() == 0);
}

TEST_CASE("a client that ends before it tells of its call has started it") {
    test_daemon daemon;
    raw_session observer(daemon);
    add(observer);
    std::optional<raw_session> s(std::in_place, daemon);
    SUBCASE("a child that is kept lives on, and its status is there to be asked for") {
        const raw_lease l = lease_child(*s, kept_lease());
        l.stop();
        REQUIRE(l.call("exit", {"6"}) == 0);
        s.reset();
        while (observer.stats().sessions() != 1) {
        }
        l.go_on();
        v1::ClientMessage m;
        m.mutable_wait()->set_child(l.child);
        CHECK(observer.request(std::move(m)).message.wait().exit().code() == 6);
        CHECK(template_info(observer).calls_total() == 1);
    }
    SUBCASE("another meets its lifetime") {
        const raw_lease l = lease_child(*s);
        REQUIRE(l.call("sleep") == 0);
        CHECK(l.word().word.kind == lease_word_kind::begins);
        s.reset();
        CHECK(l.ends());
    }
}

TEST_CASE("a leased child outlives its forkserver as long as its client has it") {
    subreaper own;
    test_daemon daemon;
    raw_session s(daemon);
    add(s);
    const raw_lease used = lease_child(s);
    raw_lease unused = lease_child(s);
    REQUIRE(unused.refused == failure{});
    daemon.signal(SIGKILL);
    daemon.wait();
    REQUIRE(used.call("exit", {"3"}) == 0);
    CHECK(used.word().word.kind == lease_word_kind::begins);
    CHECK(used.word().word.code == 3);
    CHECK_FALSE(unused.ended());
    unused.channel.reset();
    CHECK(unused.ends());
    while (subreaper::reap() != 0) {
    }
}

TEST_CASE("a shutdown ends leases") {
    test_daemon daemon;
    raw_session s(daemon);
    add(s);
    const raw_lease l = lease_child(s, kept_lease());
    REQUIRE(l.refused == failure{});
    v1::ClientMessage m;
    m.mutable_shutdown();
    (void)s.request(std::move(m));
    CHECK(l.ends());
    CHECK(daemon.wait() == 0);
}
