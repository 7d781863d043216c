// start_early(): a program that forks itself into a template before it has threads.
#include <doctest/doctest.h>
#include <unistd.h>

#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/client/client_support.hpp"
#include "tests/integration/lifetimes/lifetimes_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

spawn_options early_program(std::vector<std::string> args) {
    return {.program = helper_path("template_early"),
            .args = std::move(args),
            .in = stdio::pipe{},
            .out = stdio::pipe{},
            .env = {.set = {{"CLEANFORK_DAEMON", daemon_path()}}}};
}

}  // namespace

TEST_CASE("a program forked early is a template, initialized apart from the program") {
    const client c = launch();
    const run_result r = c.run(early_program({}));
    CHECK(r.status.success());
    CHECK(r.out ==
          "exited 3: by the template, in main, payload x\n"
          "loaded here: nothing\n");
}

TEST_CASE("a program with a second thread is no template, and its name is told") {
    const client c = launch();
    const run_result r = c.run(early_program({"thread"}));
    CHECK(r.status.code() == 1);
    CHECK(r.out.find("1 extra thread: template_early") != std::string::npos);
}

TEST_CASE("forkserver and early template end with their program") {
    const client c = launch();
    process p = c.spawn(early_program({"serve"}));
    line_reader lines(p.take_out());
    lines.next();
    lines.next();
    const std::string pids = lines.next();
    const unique_fd forkserver = ipc::pidfd_open(std::stoi(pids));
    const unique_fd made = ipc::pidfd_open(std::stoi(pids.substr(pids.find(' '))));
    REQUIRE(bool(forkserver));
    REQUIRE(bool(made));
    SUBCASE("that returned") { p.take_in().reset(); }
    SUBCASE("that was killed") { p.terminate(); }
    CHECK(ipc::pidfd_wait(forkserver.get(), ipc::pidfd_event::ended, k_patience_ms));
    CHECK(ipc::pidfd_wait(made.get(), ipc::pidfd_event::ended, k_patience_ms));
    p.wait();
}
