// The answer of a call, which comes before its process has ended.
#include <doctest/doctest.h>

#include <cleanfork/client.hpp>
#include <thread>

#include "tests/integration/client/client_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

// By a lease as soon as there is one, or always by the forkserver.
struct answering {
    client c = launch();
    call_options o{.result = true, .answer = true};
    answering() {
        template_options t{.warm = 2};
        t.process.program = CLEANFORK_TEST_HELPER_DIR "/template_program";
        c.add_template("t", t);
    }
    [[nodiscard]] process call(const char* entry, std::vector<std::string> args = {},
                               const payload& p = {}) {
        o.args = std::move(args);
        return c.call("t", entry, p, o);
    }
};

}  // namespace

TEST_CASE("an answer is what the entry returned, and the status follows") {
    answering f;
    SUBCASE("by leases") {}
    SUBCASE("by the forkserver") { f.o.leased = false; }
    for (int i = 0; i < 6; ++i) {
        process p = f.call("echo", {}, "bytes");
        const auto answer = p.wait_answer();
        REQUIRE(answer.has_value());
        CHECK(answer->code == 0);
        CHECK(answer->error.empty());
        CHECK(read_result(p.take_result().get()) == "bytes");
        CHECK(p.wait().success());
        CHECK(p.wait_answer()->code == 0);  // as often as it is asked for
    }
    CHECK(f.call("exit", {"7"}).wait_answer()->code == 7);
    const process thrown = f.call("throw", {"why"});
    CHECK(thrown.wait_answer()->code == 70);
    CHECK(thrown.wait_answer()->error == "why");
    CHECK(thrown.wait().code() == 70);
}

TEST_CASE("what ends without a return has no answer") {
    answering f;
    SUBCASE("by leases") {}
    SUBCASE("by the forkserver") { f.o.leased = false; }
    for (int i = 0; i < 4; ++i) {
        const process p = f.call("crash");
        CHECK_FALSE(p.wait_answer().has_value());
        CHECK(p.wait().signal() == SIGABRT);
    }
    const process p = f.call("sleep");
    CHECK_FALSE(p.wait_answer(10ms).has_value());
    CHECK(p.running());
    p.terminate();
    CHECK_FALSE(p.wait_answer().has_value());
}

TEST_CASE("many threads wait for one answer, and none without it having been asked for") {
    answering f;
    const process p = f.call("sleep");
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] { CHECK_FALSE(p.wait_answer().has_value()); });
    p.terminate();
    for (std::thread& t : threads) t.join();
    const process other = f.c.call("t", "nothing");
    CHECK_THROWS_AS((void)other.wait_answer(), spawn_error);
}
