// A template that stands still: each call ends by its time, is told so, and never runs later.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "tests/integration/templates/template_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

v1::ClientMessage hostile_template(const template_request& t) {
    v1::ClientMessage m = add_request(t);
    m.mutable_add_template()->mutable_process()->mutable_exec()->set_path(
        helper_path("template_hostile"));
    return m;
}

// A call that would say on `said` that it runs.
failure failed_call(raw_session& s, int said) {
    v1::SpawnRequest r = call_of("ignore");
    v1::ClientMessage m;
    v1::DescriptorMapping& d = *r.add_descriptors();
    d.set_source_descriptor(1);
    d.set_target(5);
    d.set_name("ready");
    m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
    *m.mutable_spawn() = std::move(r);
    return failure_in(s.request(std::move(m), {{said}}));
}

struct said_pipe {
    said_pipe() {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        read.reset(ends[0]);
        write.reset(ends[1]);
    }
    // Waits until nobody can say anything any more.
    std::size_t bytes() {
        write.reset();
        char byte;
        std::size_t n = 0;
        while (::read(read.get(), &byte, 1) == 1) ++n;
        return n;
    }
    unique_fd read, write;
};

}  // namespace

TEST_CASE("calls of an idle template that was stopped time out, and do not run when it goes on") {
    test_daemon daemon;
    raw_session s(daemon);
    REQUIRE(failure_in(s.request(hostile_template({.call_timeout_ms = 300}))) == failure{});
    const auto pid = static_cast<pid_t>(template_info(s).generations(0).pid());
    CHECK(call(s, call_of("exit", {"3"})).exit.code() == 3);
    REQUIRE(::kill(pid, SIGSTOP) == 0);
    said_pipe said;
    for (int i = 0; i < 2; ++i) {
        const failure f = failed_call(s, said.write.get());
        CHECK(f.step == step::child_start);
        CHECK(f.error_number == ETIMEDOUT);
    }
    REQUIRE(::kill(pid, SIGCONT) == 0);
    CHECK(said.bytes() == 0);
    CHECK(call(s, call_of("exit", {"4"})).exit.code() == 4);
    info_until(s, [](const v1::TemplateInfo& i) { return i.generations(0).children() == 0; });
}

TEST_CASE("calls of a template whose at-fork handler waits time out, and the next one is served") {
    const scratch_directory directory;
    const std::string path = directory / "hold";
    test_daemon daemon;
    raw_session s(daemon);
    REQUIRE(failure_in(s.request(hostile_template(
                {.env = {{"TEMPLATE_HOLD_FORK", path}}, .call_timeout_ms = 300}))) == failure{});
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    said_pipe said;
    for (int i = 0; i < 2; ++i) {
        const failure f = failed_call(s, said.write.get());
        CHECK(f.step == step::child_start);
        CHECK(f.error_number == ETIMEDOUT);
    }
    {
        // Open until the path is gone: the second fork's handler may come to it before.
        const unique_fd go_on(::open(path.c_str(), O_RDWR | O_CLOEXEC));
        ::unlink(path.c_str());
    }
    CHECK(said.bytes() == 0);
    CHECK(call(s, call_of("exit", {"4"})).exit.code() == 4);
}

TEST_CASE("a warm child that was stopped before its call times out as well") {
    test_daemon daemon;
    raw_session s(daemon);
    REQUIRE(failure_in(s.request(hostile_template({.warm = 1, .call_timeout_ms = 300}))) ==
            failure{});
    const v1::TemplateInfo idle = info_until(
        s, [](const v1::TemplateInfo& i) { return i.generations(0).warm_pids_size() == 1; });
    REQUIRE(::kill(static_cast<pid_t>(idle.generations(0).warm_pids(0)), SIGSTOP) == 0);
    said_pipe said;
    const failure f = failed_call(s, said.write.get());
    CHECK(f.error_number == ETIMEDOUT);
    CHECK(said.bytes() == 0);
    CHECK(call(s, call_of("exit", {"4"})).exit.code() == 4);
}
