// Files that the initialization of a template leaves open: each child has its own of them,
// under the same numbers; what must not be shared is refused or cannot be used.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include "tests/integration/attributes/inspection.hpp"
#include "tests/integration/lifetimes/lifetimes_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

struct files {
    files() {
        std::ofstream(directory / "data") << "0123456789";
        std::ofstream(directory / "log") << "";
        std::ofstream(directory / "locked") << "secret";
    }
    // As TEMPLATE_OPEN of template_setup.cpp has it.
    [[nodiscard]] template_options holding(const std::string& what, std::uint32_t warm = 0) const {
        template_options o{.process = {.program = helper("template_setup")}};
        o.process.env.set = {{"TEMPLATE_OPEN", what}};
        o.warm = warm;
        return o;
    }
    const testing::scratch_directory directory;
    const client c = launch_without("");
};

std::string ask(const client& c, const std::string& entry, call_options o = {},
                const std::string& payload = {}, const std::string& name = "t") {
    o.result = true;
    const call_result r = c.run_call(name, entry, payload, o);
    REQUIRE_MESSAGE(r.status.success(), r.status.to_string() << " " << r.error);
    return r.result();
}

std::map<std::string, int> numbers(const client& c, call_options o = {}) {
    std::istringstream lines(ask(c, "numbers", std::move(o)));
    std::map<std::string, int> all;
    std::string kind;
    for (int number = 0; lines >> kind >> number;) all[kind] = number;
    return all;
}

std::string file(const char* kind, const std::string& path) {
    return std::string(kind) + "=" + path + " ";
}

}  // namespace

TEST_CASE("each child reads from where the initialization stood") {
    const files f;
    for (const std::uint32_t warm : {0U, 2U}) {
        f.c.add_template("t", f.holding(file("read", f.directory / "data"), warm));
        for (int i = 0; i < 3; ++i) CHECK(ask(f.c, "read", {.args = {"read"}}) == "23456");
    }
}

TEST_CASE("a log that was opened gets the lines of all children") {
    const files f;
    f.c.add_template("t", f.holding(file("log", f.directory / "log")));
    for (int i = 0; i < 3; ++i) ask(f.c, "append", {}, "line " + std::to_string(i) + "\n");
    std::ifstream log(f.directory / "log");
    CHECK(std::string(std::istreambuf_iterator(log), {}) == "line 0\nline 1\nline 2\n");
}

TEST_CASE("the number of a file is never another file's") {
    const files f;
    f.c.add_template("t", f.holding(file("read", f.directory / "data") + file("memfd", "") +
                                    file("directory", f.directory / "")));
    const std::map<std::string, int> seen =
        numbers(f.c, {.fds = {{"a", STDIN_FILENO}, {"b", STDIN_FILENO}, {"c", STDIN_FILENO}}});
    std::vector<int> all;
    for (const auto& [kind, number] : seen) all.push_back(number);
    REQUIRE(all.size() == 7);
    std::sort(all.begin(), all.end());
    CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());
    CHECK(all.front() > 2);
    // A number that the caller asks for is the caller's.
    const int held = seen.at("read");
    const unique_fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const std::string path = ask(
        f.c, "path", {.args = {std::to_string(held)}, .attributes = {.fds = {{null.get(), held}}}});
    CHECK(path == "/dev/null");
}

TEST_CASE("what must not be shared fails at each use in the child, and its number is kept") {
    const files f;
    f.c.add_template("t", f.holding(file("pipe", "")));
    const int number = numbers(f.c).at("pipe");
    CHECK(ask(f.c, "read", {.args = {"pipe"}}) == "errno 9");
    CHECK(ask(f.c, "path", {.args = {std::to_string(number)}}) == "/");
}

TEST_CASE("a file with a lock is refused, or by choice cannot be used in the child") {
    const files f;
    for (const char* kind : {"flock", "record"}) {
        CAPTURE(std::string(kind));
        template_options o = f.holding(file(kind, f.directory / "locked"));
        const auto refused = f.c.try_add_template("t", o);
        REQUIRE(refused.has_error());
        CHECK(refused.error().step == step::clean);
        CHECK_MESSAGE(refused.error().detail.find("1 file lock") != std::string::npos,
                      refused.error().message());
        o.tolerate_unclean = true;
        f.c.add_template("t", o);
        CHECK(ask(f.c, "read", {.args = {kind}}) == "errno 9");
    }
}

TEST_CASE("a file that the template closes in its children is not there") {
    const files f;
    f.c.add_template("t", f.holding(file("closed", f.directory / "data")));
    const std::map<std::string, int> seen = numbers(f.c);
    CHECK(ask(f.c, "read", {.args = {"closed"}}) == "errno 9");
    CHECK(ask(f.c, "path", {.args = {std::to_string(seen.at("closed"))}}).empty());
}
