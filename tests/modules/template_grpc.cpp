// A template linked with gRPC. With TEMPLATE_GRPC set its initialization serves and calls
// over gRPC, which is what none must do; its entry does the same, which any may.
#include <unistd.h>

#include <cleanfork/template.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

#include "tests/grpc/echo.hpp"

namespace {

struct connection {
    cleanfork::test::echo_server server;
    cleanfork::test::echo_caller caller{server.address()};
    connection() {
        const std::string wrong = caller.call(1);
        if (!wrong.empty()) throw std::runtime_error(wrong);
    }
};

std::unique_ptr<connection> kept;

const cleanfork::entry use("use_grpc", [](cleanfork::call&) {
    const connection own;
    return 0;
});

// Serves its parent, and calls it: both_sides.cpp has the other side.
const cleanfork::entry both_sides("both_sides", [](cleanfork::call& c) {
    const cleanfork::test::echo_server server;
    const int address = c.descriptor("address"), end = c.descriptor("end");
    if (::write(address, server.address().data(), server.address().size()) < 0) return 3;
    cleanfork::test::echo_caller parent{std::string(c.arguments().at(0))};
    const unsigned long calls = std::stoul(std::string(c.arguments().at(1)));
    for (unsigned long i = 0; i < calls; ++i) {
        const std::string wrong = parent.call(i);
        if (!wrong.empty()) throw std::runtime_error(wrong);
    }
    c.respond(std::to_string(calls));
    char byte;
    return ::read(end, &byte, 1) == 0 ? 0 : 4;
});

const cleanfork::initialization initialize([] {
    if (std::getenv("TEMPLATE_GRPC") != nullptr) kept = std::make_unique<connection>();
});

}  // namespace

int main(int argc, char** argv) {
    cleanfork::template_main(argc, argv);
    std::fprintf(stderr, "template_grpc: a template for the tests of cleanfork\n");
    return 2;
}
