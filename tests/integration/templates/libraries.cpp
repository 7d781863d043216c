// Templates with libraries that have threads: one that ends them before each fork is forked,
// what is left in the midst of a fork is refused, with the library that started it.
#include <doctest/doctest.h>

#include <chrono>

#include "tests/integration/attributes/inspection.hpp"
#include "tests/integration/lifetimes/lifetimes_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

// As it would be without: the sum of the numbers below 1,000, and the pool's threads.
constexpr const char* k_answer = "499500 by 2";

template_options with_pool(const std::string& at_fork, std::uint32_t warm = 0) {
    template_options o{.process = {.program = helper("template_setup")}};
    o.process.env.set = {{"TEMPLATE_LOAD", helper("library_pool.so")}, {"POOL_AT_FORK", at_fork}};
    o.warm = warm;
    return o;
}

std::string pool(const client& c) {
    const call_result r = c.run_call("t", "pool", {}, {.result = true});
    REQUIRE_MESSAGE(r.status.success(), r.status.to_string() << " " << r.error);
    return r.result();
}

std::size_t threads_of_template(const client& c) {
    const template_info info = c.template_info("t");
    REQUIRE(info.current() != nullptr);
    return info.current()->threads;
}

}  // namespace

TEST_CASE("threads that a library ends before a fork are no hindrance, and are there again") {
    for (const std::uint32_t warm : {0U, 2U}) {
        const client c = launch_without("");
        c.add_template("t", with_pool("ends", warm));
        CHECK(threads_of_template(c) == 1);
        for (int i = 0; i < 20; ++i) CHECK(pool(c) == k_answer);
        CHECK(threads_of_template(c) == 1);
    }
}

TEST_CASE("threads that end a moment after a fork are waited for") {
    const client c = launch_without("");
    c.add_template("t", with_pool("late"));
    CHECK(threads_of_template(c) == 1);
    for (int i = 0; i < 5; ++i) CHECK(pool(c) == k_answer);
}

TEST_CASE("threads that come back between forks are judged in the midst of each") {
    for (const std::uint32_t warm : {0U, 2U}) {
        const client c = launch_without("");
        c.add_template("t", with_pool("returns", warm));
        for (int i = 0; i < 20; ++i) CHECK(pool(c) == k_answer);
        // In the midst of the fork of a warm child there are none.
        while (threads_of_template(c) != 3) {
        }
    }
}

TEST_CASE("a template whose threads are left in a later fork is refused then") {
    const client c = launch_without("");
    c.add_template("t", with_pool("spent"));
    int ran = 0;
    for (; ran < 5; ++ran) {
        const auto r = c.try_call("t", "pool", {}, {.result = true});
        if (r) continue;
        CHECK(r.error().step == step::clean);
        CHECK_MESSAGE(r.error().detail.find("2 extra threads: ") != std::string::npos,
                      r.error().message());
        break;
    }
    // The rehearsal was the first fork.
    CHECK(ran == 1);
    CHECK(c.template_info("t").state == template_state::refused);
}

TEST_CASE("threads that nothing ends are refused, with their library") {
    const client c = launch_without("");
    const auto r = c.try_add_template("t", with_pool("stays"));
    REQUIRE(r.has_error());
    CHECK(r.error().step == step::clean);
    CHECK_MESSAGE(r.error().detail.find(" of library_pool.so") != std::string::npos,
                  r.error().message());
}

TEST_CASE("a library whose handler hangs in the child fails the template, not its callers") {
    const client c = launch_without("");
    const auto r = c.try_add_template("t", with_pool("hangs"));
    REQUIRE(r.has_error());
    CHECK(r.error().step == step::template_start);
    CHECK_MESSAGE(r.error().detail.find("at-fork handlers") != std::string::npos,
                  r.error().message());
}

TEST_CASE("a program whose libraries end their threads at a fork can be forked early") {
    const client c = launch();
    const run_result r = c.run({.program = helper("template_setup"),
                                .args = {"early"},
                                .out = stdio::pipe{},
                                .err = stdio::pipe{},
                                .env = {.set = {{"CLEANFORK_DAEMON", testing::daemon_path()},
                                                {"TEMPLATE_LOAD", helper("library_pool.so")},
                                                {"POOL_AT_FORK", "ends"}}}});
    CHECK_MESSAGE(r.status.success(), r.err);
    CHECK(r.out == std::string(k_answer) + "\n");
}
