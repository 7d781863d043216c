// Calls: what a child of a template is, and how it ends.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <set>
#include <sstream>

#include "tests/integration/templates/template_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

std::map<std::string, std::string> pairs(const std::string& text) {
    std::map<std::string, std::string> all;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        const std::size_t space = line.find(' ');
        all[line.substr(0, space)] = line.substr(space + 1);
    }
    return all;
}

}  // namespace

TEST_CASE("a template becomes ready, and a call runs one of its entries") {
    test_daemon daemon;
    raw_session s(daemon);
    const reply added = add_template(s);
    REQUIRE(failure_in(added) == failure{});
    const v1::TemplateInfo& info = added.message.add_template().info();
    CHECK(info.state() == v1::TEMPLATE_STATE_READY);
    CHECK(info.generation() == 1);
    REQUIRE(info.generations_size() == 1);
    CHECK(info.generations(0).threads() == 1);

    v1::SpawnRequest r = call_of("echo");
    r.mutable_call()->set_payload("a payload");
    const answer a = call(s, r);
    CHECK(a.refused == failure{});
    CHECK(a.exit.how_case() == v1::Exit::kCode);
    CHECK(a.exit.code() == 0);
    CHECK(a.bytes == "a payload");
    CHECK(a.exit.usage().max_rss_kib() > 0);
    CHECK(a.exit.wall_ns() > 0);
    CHECK(call(s, call_of("exit", {"7"})).exit.code() == 7);
    CHECK(call(s, call_of("args", {"one", "", "two words"})).bytes == "one\n\ntwo words\n");
}

TEST_CASE("a child of a template has the state of an executed program, and libc's is its own") {
    test_daemon daemon;
    raw_session s(daemon);
    template_request t;
    SUBCASE("forked when asked for") {}
    SUBCASE("warm") { t.warm = 4; }
    REQUIRE(failure_in(add_template(s, t)) == failure{});
    std::map<std::string, std::set<std::string>> seen;
    for (int i = 0; i < 8; ++i) {
        const auto state = pairs(call(s, call_of("state")).bytes);
        CHECK(state.at("mutexes") == "right");
        CHECK(state.at("fresh_pid") == "1");
        CHECK(state.at("pid") == state.at("tid"));
        CHECK(std::stoi(state.at("atfork")) >= 1);
        for (const char* random : {"rand", "random", "drand48", "engine"})
            seen[random].insert(state.at(random));
    }
    for (const auto& [name, values] : seen) {
        CAPTURE(name);
        CHECK(values.size() == 8);
    }
    // 0, 1, 2 on /dev/null; the answer's own; nothing else.
    const auto fds = pairs(call(s, call_of("fds")).bytes);
    REQUIRE(fds.size() == 4);
    for (const char* fd : {"0", "1", "2"}) CHECK(fds.at(fd) == "/dev/null");
    for (const auto& [fd, link] : fds)
        if (fd > "2") CHECK(link.starts_with("/memfd:cleanfork-test"));
}

TEST_CASE("what a template has in its buffers is not written by its children") {
    test_daemon daemon;
    raw_session s(daemon);
    REQUIRE(failure_in(add_template(s)) == failure{});
    const unique_fd out = memory_file();
    v1::SpawnRequest r = call_of("write_stdout");
    r.mutable_call()->set_payload("x");
    CHECK(call(s, r, {{"stdout", out.get()}}).exit.code() == 0);
    CHECK(contents_of(out.get()) == "cout x printf\n");
}

TEST_CASE("descriptors come by name, and are all the child has") {
    test_daemon daemon;
    raw_session s(daemon);
    REQUIRE(failure_in(add_template(s)) == failure{});
    const unique_fd one = memory_file("first"), two = memory_file("second");
    ::lseek(one.get(), 0, SEEK_SET);
    ::lseek(two.get(), 0, SEEK_SET);
    CHECK(call(s, call_of("cat", {"b"}), {{"a", one.get()}, {"b", two.get()}}).bytes == "second");
    const answer missing = call(s, call_of("cat", {"c"}), {{"a", one.get()}});
    CHECK(missing.exit.code() == 70);
    CHECK(missing.exit.error().find("there are: a") != std::string::npos);
}

TEST_CASE("attributes of a call are applied as to a program") {
    test_daemon daemon;
    raw_session s(daemon);
    REQUIRE(failure_in(add_template(s)) == failure{});
    v1::SpawnRequest r = call_of("cwd");
    r.set_cwd_path("/usr");
    CHECK(call(s, r).bytes == "/usr");
    r = call_of("env");
    r.mutable_environment()->set_clear(true);
    r.mutable_environment()->add_set("A=b");
    CHECK(call(s, r).bytes == "A=b\n");
    r = call_of("nothing");
    r.set_cwd_path("/no/such");
    const failure f = call(s, r).refused;
    CHECK(f.step == step::chdir);
    CHECK(f.error_number == ENOENT);
    CHECK(f.object == "/no/such");
}

TEST_CASE("how a call ended is told exactly, an exception with its text") {
    test_daemon daemon;
    raw_session s(daemon);
    template_request t;
    SUBCASE("forked when asked for") {}
    SUBCASE("warm") { t.warm = 2; }
    REQUIRE(failure_in(add_template(s, t)) == failure{});
    const answer thrown = call(s, call_of("throw", {"no luck"}));
    CHECK(thrown.exit.code() == 70);
    CHECK(thrown.exit.error() == "no luck");
    CHECK(call(s, call_of("throw_int")).exit.error() == "an exception that is no std::exception");
    CHECK(call(s, call_of("crash")).exit.signal() == SIGABRT);
    const failure unknown = call(s, call_of("no_such_entry")).refused;
    CHECK(unknown.step == step::entry);
    CHECK(unknown.error_number == ENOENT);
    CHECK(unknown.object == "no_such_entry");
    CHECK(unknown.detail.find("echo") != std::string::npos);
    const failure no_template = call(s, call_of("nothing", {}, "u")).refused;
    CHECK(no_template.step == step::template_name);
    CHECK(no_template.detail.find("there are: t") != std::string::npos);
    CHECK(call(s, call_of("nothing")).exit.code() == 0);
}

TEST_CASE("a derived template shares its base's entries and has its own state") {
    test_daemon daemon;
    raw_session s(daemon);
    REQUIRE(failure_in(add_template(s)) == failure{});
    const reply added = add_template(s, {.name = "d", .from = "t", .payload = "more"});
    REQUIRE(failure_in(added) == failure{});
    CHECK(added.message.add_template().info().state() == v1::TEMPLATE_STATE_READY);
    CHECK(pairs(call(s, call_of("state", {}, "d")).bytes).at("extension") == "more");
    CHECK(pairs(call(s, call_of("state")).bytes).at("extension") == "none");
    const failure f = failure_in(add_template(s, {.name = "e", .from = "t", .payload = "throw"}));
    CHECK(f.step == step::template_start);
    CHECK(f.detail == "the extension failed");
}
