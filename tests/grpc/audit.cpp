// The audit of this very process while it serves gRPC.
#include "ipc/audit/audit.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cleanfork/client.hpp>

#include "tests/grpc/echo.hpp"
#include "tests/helpers/patience.hpp"

using namespace cleanfork;
using namespace cleanfork::test;
using namespace std::chrono_literals;

namespace {

std::vector<ipc::finding> of_kind(const ipc::audit_report& report, ipc::hazard kind) {
    std::vector<ipc::finding> found;
    for (const ipc::finding& f : report.findings)
        if (f.kind == kind) found.push_back(f);
    return found;
}

}  // namespace

TEST_CASE("the audit of a gRPC server names gRPC's threads, its epoll and its socket") {
    const echo_server server;
    echo_caller caller(server.address());
    REQUIRE(caller.call(1) == "");

    const auto report = ipc::audit(::getpid());
    REQUIRE(report.has_value());
    CHECK_FALSE(report->safe());
    const auto threads = of_kind(*report, ipc::hazard::thread);
    CHECK(threads.size() == report->threads - 1);
    const auto of_grpc = [](const ipc::finding& f) {
        return f.name.find("grpc") != std::string::npos;
    };
    CHECK(std::any_of(threads.begin(), threads.end(), of_grpc));
    CHECK_FALSE(of_kind(*report, ipc::hazard::epoll).empty());
    const auto sockets = of_kind(*report, ipc::hazard::socket);
    const std::string port = server.address().substr(server.address().find(':'));
    CHECK(std::any_of(sockets.begin(), sockets.end(), [&](const ipc::finding& f) {
        return f.name.ends_with(port + " listening");
    }));
    const std::string line = ipc::summary(*report);
    INFO(line);
    CHECK(line.find("extra thread") != std::string::npos);
    CHECK(line.find("epoll descriptor") != std::string::npos);
}

TEST_CASE("the command says of a live gRPC server that it is not safe to fork from") {
    const client forkserver = launch();  // first, as a program should
    const echo_server server;
    const run_result done = forkserver.run({.program = CLEANFORK_BIN_DIR "/cleanfork",
                                            .args = {"audit", std::to_string(::getpid())},
                                            .out = stdio::pipe{}},
                                           "", k_patience);
    CHECK(done.status == exit_status::exited(1));
    CHECK(done.out.find("): not safe to fork from\n") != std::string::npos);
    CHECK(done.out.find("\n  thread ") != std::string::npos);
    CHECK(done.out.find("\n  epoll ") != std::string::npos);
}
