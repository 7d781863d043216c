// A template linked with gRPC. With TEMPLATE_GRPC set its initialization serves and calls
// over gRPC, which is what none must do; its entry does the same, which any may.
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

const cleanfork::initialization initialize([] {
    if (std::getenv("TEMPLATE_GRPC") != nullptr) kept = std::make_unique<connection>();
});

}  // namespace

int main(int argc, char** argv) {
    cleanfork::template_main(argc, argv);
    std::fprintf(stderr, "template_grpc: a template for the tests of cleanfork\n");
    return 2;
}
