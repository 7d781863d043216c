// What goes through the channel of a lease, and who may send it.
#include <doctest/doctest.h>
#include <grp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "tests/integration/leases/lease_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

using ipc::lease_word_kind;

// A forkserver with the template "t", which leases up to two children.
struct leasing {
    explicit leasing(const std::vector<std::string>& args = {})
        : daemon({.args = args}), s(daemon) {
        REQUIRE(failure_in(add_template(s, {.warm = 2})) == failure{});
    }
    test_daemon daemon;
    raw_session s;
};

void expect_returned(const raw_lease& l, int code, const std::string& error = {}) {
    CHECK(l.word().word.kind == lease_word_kind::begins);
    const ipc::lease_message m = l.word();
    CHECK(m.word.kind == lease_word_kind::returned);
    CHECK(m.word.code == code);
    CHECK(m.text == error);
}

}  // namespace

TEST_CASE("a leased child runs the call that its session sends it, and its status is exact") {
    leasing f;
    const raw_lease l = lease_child(f.s);
    REQUIRE(l.refused == failure{});
    const auto before = listed(f.s, l.child);
    REQUIRE(before.has_value());
    CHECK(before->leased());
    CHECK(before->pid() == l.pid);
    CHECK_FALSE(l.ended());

    REQUIRE(l.call("exit", {"7"}) == 0);
    tell_used(f.s, l, "exit");
    expect_returned(l, 7);
    const v1::Exit e = f.s.await_exit(l.child);
    CHECK(e.code() == 7);
    CHECK(e.usage().max_rss_kib() > 0);
    const auto after = listed(f.s, l.child);
    REQUIRE(after.has_value());
    CHECK_FALSE(after->leased());
    CHECK(after->command() == "t exit");
    CHECK(template_info(f.s).calls_total() == 1);
}

TEST_CASE("descriptors, payload, result and exception of a leased call are those of any call") {
    leasing f;
    const unique_fd result = memory_file(), payload = memory_file("from a file");
    const unique_fd named = memory_file("named");
    REQUIRE(::lseek(named.get(), 0, SEEK_SET) == 0);
    const int fds[] = {result.get(), payload.get(), named.get()};
    SUBCASE("what comes by name is read, and answered") {
        const raw_lease l = lease_child(f.s);
        ipc::lease_content c = content("cat", {"in"});
        c.result_descriptor = 0;
        c.payload_descriptor = 1;
        c.moves = {{"in", 2, 3}};
        REQUIRE(l.send(ipc::pack_lease(c), fds) == 0);
        expect_returned(l, 0);
        CHECK(contents_of(result.get()) == "named");
    }
    SUBCASE("a payload in a file is mapped") {
        const raw_lease l = lease_child(f.s);
        ipc::lease_content c = content("echo");
        c.result_descriptor = 0;
        c.payload_descriptor = 1;
        REQUIRE(l.send(ipc::pack_lease(c), {fds, 2}) == 0);
        expect_returned(l, 0);
        CHECK(contents_of(result.get()) == "from a file");
    }
    SUBCASE("an exception is told with the answer, and with the exit") {
        const raw_lease l = lease_child(f.s);
        REQUIRE(l.call("throw", {"why"}) == 0);
        expect_returned(l, 70, "why");
        CHECK(f.s.await_exit(l.child).error() == "why");
    }
    SUBCASE("the entry has what was sent, what tells its caller, and no more") {
        const raw_lease l = lease_child(f.s);
        ipc::lease_content c = content("fds");
        c.result_descriptor = 0;
        c.moves = {{"in", 2, 3}, {{}, 2, 1}};
        REQUIRE(l.send(ipc::pack_lease(c), fds) == 0);
        expect_returned(l, 0);
        const std::string all = contents_of(result.get());
        CHECK(all.find("0 /dev/null\n") == 0);
        CHECK(all.find("1 /memfd") != std::string::npos);
        CHECK(all.find("3 /memfd") != std::string::npos);
        CHECK(all.find("socket") == std::string::npos);
        CHECK(std::count(all.begin(), all.end(), '\n') == 6);  // 0 to 3, the result, the pipe
    }
}

TEST_CASE("a packet that is no call is refused before an entry runs, and harms nobody else") {
    leasing f;
    const auto is_full = [](const v1::TemplateInfo& i) {
        return i.generations(0).warm_pids_size() == 2;
    };
    info_until(f.s, is_full);
    baseline before(f.s);
    const std::string good = ipc::pack_lease(content("nothing"));
    const auto changed = [&](auto change) {
        std::string p = good;
        change(*reinterpret_cast<ipc::lease_call*>(p.data()));
        return p;
    };
    const std::string bad[] = {
        "x",
        good.substr(0, good.size() - 1),
        good + "x",
        changed([](ipc::lease_call& c) { ++c.protocol; }),
        changed([](ipc::lease_call& c) { c.entry.count = ~std::uint64_t{0}; }),
        changed([](ipc::lease_call& c) { c.arguments.count = std::uint64_t{1} << 60; }),
        changed([](ipc::lease_call& c) {
            c.moves.at = c.size - 1;
            c.moves.count = 1;
        }),
        changed([](ipc::lease_call& c) { c.payload = 0; }),
        changed([](ipc::lease_call& c) { c.result = 64; }),
        std::string(ipc::k_max_inline_body + 1, '\0'),
        ipc::pack_lease(content("nobody")),
    };
    for (const std::string& packet : bad) {
        CAPTURE(packet.size());
        const raw_lease l = lease_child(f.s);
        REQUIRE(l.refused == failure{});
        REQUIRE(l.send(packet) == 0);
        CHECK(l.word().word.kind == lease_word_kind::refused);
        CHECK(f.s.await_exit(l.child).code() == 0);
        f.s.acknowledge({l.child});
    }
    CHECK(info_until(f.s, is_full).calls_total() == 0);
    before.expect_again();
}

TEST_CASE("a child takes one call, and what is sent after it is nobody's") {
    leasing f;
    const raw_lease l = lease_child(f.s);
    l.stop();
    REQUIRE(l.call("exit", {"1"}) == 0);
    REQUIRE(l.call("exit", {"2"}) == 0);
    l.go_on();
    CHECK(f.s.await_exit(l.child).code() == 1);
}

TEST_CASE("whether an entry had begun is known when its child has ended") {
    leasing f;
    const raw_lease l = lease_child(f.s);
    l.stop();
    SUBCASE("it was not") {
        REQUIRE(l.call("nothing") == 0);
        REQUIRE(ipc::pidfd_signal(l.pidfd.get(), SIGKILL) == 0);
        REQUIRE(l.ends());
        CHECK(l.word().word.kind == lease_word_kind());
    }
    SUBCASE("it was") {
        l.go_on();
        REQUIRE(l.call("crash") == 0);
        REQUIRE(l.ends());
        CHECK(l.word().word.kind == lease_word_kind::begins);
        CHECK(l.word().word.kind == lease_word_kind());
    }
}

TEST_CASE("who has given up the rights of a lease has lost it") {
    if (::geteuid() != 0) {
        MESSAGE("skipped: needs root, to give it up");
        return;
    }
    leasing f;
    const raw_lease l = lease_child(f.s);
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(::setresuid(65534, 65534, 65534) == 0 ? l.call("nothing") : 99);
    int status = 1;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    REQUIRE(status == 0);
    CHECK(l.word().word.kind == lease_word_kind::refused);
    CHECK(f.s.await_exit(l.child).code() == 0);
}

TEST_CASE("a lease is asked for alone, without what comes with its call") {
    leasing f;
    SUBCASE("a batch") {
        v1::ClientMessage m;
        *m.mutable_batch()->add_items() = lease_request();
        m.mutable_batch()->mutable_items(0)->mutable_call()->clear_answer_descriptor();
        const reply r = f.s.request(std::move(m));
        CHECK(r.message.batch().items(0).failure().error_number() == EINVAL);
    }
    SUBCASE("descriptors") {
        v1::SpawnRequest r = lease_request();
        map_descriptor(r, 1, 5);
        CHECK(lease_child(f.s, r).refused.error_number == EINVAL);
    }
    SUBCASE("a template that leases none") {
        REQUIRE(failure_in(add_template(f.s, {.name = "cold"})) == failure{});
        CHECK(lease_child(f.s, lease_request("cold")).refused.error_number == ENOTSUP);
    }
    SUBCASE("more than the template leases") {
        const raw_lease one = lease_child(f.s), two = lease_child(f.s);
        CHECK(one.refused == failure{});
        CHECK(two.refused == failure{});
        CHECK(lease_child(f.s).refused.error_number == EDQUOT);
    }
}
