// Templates on the wire: how they are asked for, and what is told of them.
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include "client/src/connection/convert.hpp"
#include "client/src/requests/template_options.hpp"
#include "tests/unit/client/client_peer.hpp"

using namespace cleanfork;
using namespace cleanfork::detail;
using namespace cleanfork::test;

namespace {

struct translated {
    v1::AddTemplateRequest request;
    descriptor_list descriptors;
    result<void> outcome;
    explicit translated(const template_options& o)
        : outcome(translate_template("thumbnails", o, request, descriptors)) {}
};

void check_refused(const template_options& o, const std::string& object) {
    const translated t(o);
    REQUIRE(t.outcome.has_error());
    CHECK(t.outcome.error().step == step::request);
    CHECK(t.outcome.error().object == object);
}

std::string tunables(environment env) {
    request_huge_pages(env);
    return env.set.at("GLIBC_TUNABLES");
}

v1::TemplateInfo told() {
    v1::TemplateInfo t;
    t.set_name("thumbnails");
    t.set_command("./thumbnailer");
    t.set_from("base");
    t.set_state(v1::TEMPLATE_STATE_READY);
    t.set_generation(3);
    t.set_warm_wanted(2);
    t.mutable_last_error()->set_step(static_cast<std::uint32_t>(step::clean));
    t.mutable_last_error()->set_object("2 extra threads");
    t.set_stderr_tail("the end");
    t.set_restarts(4);
    t.set_calls_total(5);
    t.set_waiting(6);
    t.set_retry_in_ms(700);
    v1::GenerationInfo& g = *t.add_generations();
    g.set_generation(3);
    g.set_state(v1::TEMPLATE_STATE_READY);
    g.set_pid(::getpid());
    g.set_age_ns(1000);
    g.set_initialization_ns(2000);
    g.set_threads(1);
    g.set_children(8);
    g.add_warm_pids(::getpid());
    g.add_warm_pids(::getpid());
    g.set_unclean("a timer");
    g.set_stderr_tail("its own end");
    t.add_generations()->set_state(v1::TEMPLATE_STATE_DRAINING);
    return t;
}

}  // namespace

TEST_CASE("a template is a program with attributes, and what is wanted of it") {
    const translated t({.process = {.program = "./thumbnailer", .args = {"--fast"}, .nice = 3},
                        .warm = 4,
                        .start_timeout = std::chrono::seconds(90),
                        .call_timeout = std::chrono::milliseconds(250),
                        .allowed_descriptors = {5, 9},
                        .tolerate_unclean = true});
    REQUIRE(t.outcome.has_value());
    CHECK(t.request.name() == "thumbnails");
    CHECK(t.request.from().empty());
    CHECK(t.request.process().exec().path() == "./thumbnailer");
    CHECK(t.request.process().exec().argv(1) == "--fast");
    CHECK(t.request.process().nice() == 3);
    CHECK_FALSE(t.request.process().has_environment());
    CHECK(t.request.warm() == 4);
    CHECK(t.request.start_timeout_ms() == 90'000);
    CHECK(t.request.call_timeout_ms() == 250);
    CHECK_FALSE(t.request.no_wait());
    REQUIRE(t.request.allowed_descriptors_size() == 2);
    CHECK(t.request.allowed_descriptors(1) == 9);
    CHECK(t.request.tolerate_unclean());
    CHECK(translated({.process = {.program = "x"}, .wait = false}).request.no_wait());
}

TEST_CASE("this program as its own template is given by descriptor, under its own name") {
    const std::size_t before = ipc::open_descriptor_count();
    {
        template_options o = template_options::self();
        o.process.args = {"--template"};
        const translated t(o);
        REQUIRE(t.outcome.has_value());
        const v1::ExecTarget& exec = t.request.process().exec();
        REQUIRE(exec.program_descriptor() == 1);
        CHECK(exec.argv(0) == program_invocation_name);
        CHECK(exec.argv(1) == "--template");
        struct stat given {
        }, own{};
        REQUIRE(::fstat(t.descriptors.numbers()[0], &given) == 0);
        REQUIRE(::stat("/proc/self/exe", &own) == 0);
        CHECK(given.st_ino == own.st_ino);
        CHECK(given.st_dev == own.st_dev);
    }
    CHECK(ipc::open_descriptor_count() == before);
}

TEST_CASE("a derived template is a call of its initializer in the base") {
    template_options o =
        template_options::derived("base", "extend", std::string(ipc::k_max_inline_payload, 'p'));
    o.process.nice = 2;
    o.initializer_args = {"more"};
    o.initializer_fds = {{"model", 0}};
    const translated t(o);
    REQUIRE(t.outcome.has_value());
    CHECK(t.request.from() == "base");
    const v1::SpawnRequest& process = t.request.process();
    CHECK(process.call().template_name() == "base");
    CHECK(process.call().entry() == "extend");
    CHECK(process.call().arguments(0) == "more");
    CHECK(process.call().payload().size() == ipc::k_max_inline_payload);
    CHECK(process.descriptors(0).name() == "model");
    CHECK(process.nice() == 2);
    const unique_fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    const translated by_file(
        template_options::derived("base", "extend", stdio::descriptor{file.get()}));
    CHECK(by_file.request.process().call().payload_descriptor() == 1);
}

TEST_CASE("a template that is nothing, or two things at once, is refused") {
    check_refused({}, "program");
    check_refused({.process = {.program = "x"}, .own_program = true}, "own_program");
    check_refused({.own_program = true, .from = "base", .initializer = "extend"}, "own_program");
    check_refused({.process = {.program = "x"}, .from = "base", .initializer = "extend"},
                  "program");
    check_refused({.from = "base"}, "initializer");
    check_refused({.process = {.program = "x"}, .initializer = "extend"}, "initializer");
    check_refused({.from = "base", .initializer = "extend", .huge_pages = true}, "huge_pages");
    check_refused({.process = {.program = "x", .err = stdio::pipe{}}}, "stdio::pipe");
}

TEST_CASE("huge pages are one more tunable of the C library, or one that changes") {
    constexpr const char* k_wanted = "glibc.malloc.hugetlb=1";
    CHECK(tunables({.clear = true}) == k_wanted);
    CHECK(tunables({.set = {{"GLIBC_TUNABLES", "glibc.malloc.arena_max=1"}}}) ==
          std::string("glibc.malloc.arena_max=1:") + k_wanted);
    CHECK(tunables({.set = {{"GLIBC_TUNABLES", "glibc.malloc.hugetlb=0:a.b=c:"}}}) ==
          std::string("a.b=c:") + k_wanted);
    ::setenv("GLIBC_TUNABLES", "glibc.malloc.check=0", 1);
    CHECK(tunables({}) == std::string("glibc.malloc.check=0:") + k_wanted);
    CHECK(tunables({.clear = true}) == k_wanted);
    CHECK(tunables({.unset = {"GLIBC_TUNABLES"}}) == k_wanted);
    ::unsetenv("GLIBC_TUNABLES");
    CHECK(tunables({}) == k_wanted);
    const translated t({.process = {.program = "x"}, .huge_pages = true});
    CHECK(t.request.process().environment().set(0) == std::string("GLIBC_TUNABLES=") + k_wanted);
}

TEST_CASE("everything the forkserver tells of a template arrives") {
    const template_info t = template_of(told());
    CHECK(t.name == "thumbnails");
    CHECK(t.command == "./thumbnailer");
    CHECK(t.from == "base");
    CHECK(t.state == template_state::ready);
    CHECK(t.generation == 3);
    CHECK(t.warm_wanted == 2);
    REQUIRE(t.last_error.has_value());
    CHECK(t.last_error->step == step::clean);
    CHECK(t.last_error->object == "2 extra threads");
    CHECK(t.stderr_tail == "the end");
    CHECK(t.restarts == 4);
    CHECK(t.calls_total == 5);
    CHECK(t.waiting == 6);
    CHECK(t.retry_in == std::chrono::milliseconds(700));
    REQUIRE(t.generations.size() == 2);
    CHECK(t.generations[1].state == template_state::draining);
    REQUIRE(t.current() == &t.generations[0]);
    const generation_info& g = *t.current();
    CHECK(g.pid == ::getpid());
    CHECK(g.age == std::chrono::nanoseconds(1000));
    CHECK(g.initialization == std::chrono::nanoseconds(2000));
    CHECK(g.threads == 1);
    CHECK(g.children == 8);
    CHECK(g.warm_pids.size() == 2);
    CHECK(g.unclean == "a timer");
    CHECK(g.stderr_tail == "its own end");
    CHECK(to_string(g.state) == "ready");
    CHECK(template_info().current() == nullptr);
}

TEST_CASE("memory is read from the process itself, and absent when it cannot be") {
    const auto own = memory_of(::getpid());
    REQUIRE(own.has_value());
    CHECK(own->rss_kib > 0);
    CHECK(own->pss_kib <= own->rss_kib);
    CHECK(own->private_dirty_kib > 0);
    const generation_info g = template_of(told()).generations.front();
    CHECK(g.memory().has_value());
    CHECK(g.warm_memory().value().rss_kib > g.memory()->rss_kib);
    CHECK_FALSE(memory_of(0).has_value());
    CHECK_FALSE(memory_of(-1).has_value());
    CHECK_FALSE(generation_info().memory().has_value());
    CHECK_FALSE(generation_info().warm_memory().has_value());
    own_child ended("exit 0");
    REQUIRE(ended.ended());
    CHECK_FALSE(memory_of(ended.pid()).has_value());  // a zombie has none
}

TEST_CASE("templates are added, told, reloaded and removed by name") {
    peer p;
    const client c = greeted_client(p);
    std::vector<v1::ClientMessage> asked;
    std::thread answering([&] {
        for (int i = 0; i < 5; ++i) {
            asked.push_back(p.next().message);
            const v1::ClientMessage& q = asked.back();
            v1::ServerMessage m;
            m.set_request_id(q.request_id());
            if (q.has_add_template()) *m.mutable_add_template()->mutable_info() = told();
            if (q.has_reload_template()) *m.mutable_reload_template()->mutable_info() = told();
            if (q.has_remove_template()) m.mutable_remove_template();
            if (q.has_list_templates()) *m.mutable_list_templates()->add_templates() = told();
            p.send(m);
        }
    });
    CHECK(c.add_template("thumbnails", {.process = {.program = "x"}}).generation == 3);
    CHECK(c.templates().size() == 1);
    CHECK(c.template_info("thumbnails").calls_total == 5);
    CHECK(c.reload_template("thumbnails", false).generation == 3);
    c.remove_template("thumbnails");
    answering.join();
    CHECK(asked[0].add_template().name() == "thumbnails");
    CHECK(asked[1].list_templates().name().empty());
    CHECK(asked[2].list_templates().name() == "thumbnails");
    CHECK(asked[3].reload_template().name() == "thumbnails");
    CHECK(asked[3].reload_template().no_wait());
    CHECK(asked[4].remove_template().name() == "thumbnails");
}

TEST_CASE("the same asynchronously, and a template that failed is told as its failure") {
    peer p;
    boost::asio::io_context io;
    const client c = greeted_client(p, io.get_executor());
    std::thread answering([&] {
        for (int i = 0; i < 5; ++i) {
            const v1::ClientMessage q = p.next().message;
            v1::ServerMessage m;
            m.set_request_id(q.request_id());
            if (q.has_add_template()) {
                m.mutable_failure()->set_step(static_cast<std::uint32_t>(step::clean));
                m.mutable_failure()->set_object("2 extra threads");
            }
            if (q.has_reload_template()) *m.mutable_reload_template()->mutable_info() = told();
            if (q.has_remove_template()) m.mutable_remove_template();
            if (q.has_list_templates()) m.mutable_list_templates();
            p.send(m);
        }
    });
    const auto added = std::make_shared<failure>(), none = std::make_shared<failure>();
    int done = 0;
    c.async_add_template("t", {.process = {.program = "x"}},
                         [&](const std::exception_ptr& e, const template_info&) {
                             *added = failure_of(e);
                             ++done;
                         });
    c.async_templates([&](const std::exception_ptr& e, const std::vector<template_info>& all) {
        CHECK(!e);
        CHECK(all.empty());
        ++done;
    });
    c.async_template_info("nobody", [&](const std::exception_ptr& e, const template_info&) {
        *none = failure_of(e);
        ++done;
    });
    c.async_reload_template("t", true, [&](const std::exception_ptr& e, const template_info& t) {
        CHECK(!e);
        CHECK(t.name == "thumbnails");
        ++done;
    });
    c.async_remove_template("t", [&](const std::exception_ptr& e) {
        CHECK(!e);
        ++done;
    });
    io.run();
    answering.join();
    CHECK(done == 5);
    CHECK(added->step == step::clean);
    CHECK(added->object == "2 extra threads");
    CHECK(none->step == step::template_name);
    CHECK(none->error_number == ENOENT);
    CHECK(none->object == "nobody");
}

TEST_CASE("a template that is not ready in time is no failure of the connection") {
    peer p;
    const client c = greeted_client(p);
    const auto r =
        c.try_add_template("t", {.process = {.program = "x"}}, std::chrono::milliseconds(20));
    REQUIRE(r.has_error());
    CHECK(r.error().step == step::template_start);
    CHECK(r.error().error_number == ETIMEDOUT);
    CHECK(c.connected());
}

TEST_CASE("without a connection everything about templates says so") {
    const client none;
    CHECK(none.try_call("t", "e").error().error_number == ENOTCONN);
    CHECK(none.try_run_call("t", "e").error().error_number == ENOTCONN);
    CHECK(none.try_add_template("t", template_options::self()).error().error_number == ENOTCONN);
    CHECK(none.try_template_info("t").error().error_number == ENOTCONN);
    CHECK(none.try_reload_template("t").error().error_number == ENOTCONN);
    CHECK_THROWS_AS(none.templates(), spawn_error);
    CHECK_THROWS_AS(none.remove_template("t"), spawn_error);
}
