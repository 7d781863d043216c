// gRPC in a template: before a fork never, in its children at will.
#include <doctest/doctest.h>

#include <algorithm>
#include <cleanfork/client.hpp>

using namespace cleanfork;

namespace {

template_options grpc_template(std::map<std::string, std::string> variables) {
    return {.process = {.program = CLEANFORK_TEST_HELPER_DIR "/template_grpc",
                        .env = {.set = std::move(variables)}}};
}

}  // namespace

TEST_CASE("a template that starts gRPC in its initialization is refused, its threads named") {
    const client c = launch();
    const auto added = c.try_add_template("t", grpc_template({{"TEMPLATE_GRPC", "1"}}));
    REQUIRE_FALSE(added.has_value());
    const failure& why = added.error();
    INFO(why.message());
    CHECK(why.step == step::clean);
    CHECK(why.detail.find("extra threads: ") != std::string::npos);
    CHECK(why.detail.find("grpc") != std::string::npos);
    CHECK(why.detail.find("epoll descriptor") != std::string::npos);
    CHECK(why.detail.find("socket") != std::string::npos);
    CHECK(c.template_info("t").state == template_state::refused);
    const auto called = c.try_call("t", "use_grpc");
    REQUIRE_FALSE(called.has_value());
    CHECK(called.error().step == step::clean);
    CHECK(called.error().detail.find("grpc") != std::string::npos);
}

TEST_CASE("children of a template that is linked with gRPC serve and call over it, each anew") {
    const client c = launch();
    template_options o = grpc_template({});
    SUBCASE("forked when asked for") {}
    SUBCASE("warm") { o.warm = 2; }
    c.add_template("t", o);
    std::vector<process> children;
    for (int i = 0; i < 6; ++i) children.push_back(c.call("t", "use_grpc"));
    for (const process& p : children) CHECK(p.wait() == exit_status::exited(0));
    CHECK(c.template_info("t").generation == 1);
}
