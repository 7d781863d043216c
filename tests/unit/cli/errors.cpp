// Where what a command throws becomes a line and an exit code.
#include "client/cli/commands/errors.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <stdexcept>
#include <vector>

#include "client/cli/commands/commands.hpp"
#include "client/cli/commands/servers.hpp"
#include "client/cli/options/arguments.hpp"
#include "client/cli/options/command_error.hpp"

using namespace cleanfork;
using namespace cleanfork::cli;

namespace {

// A manner that keeps what is told.
struct listener {
    std::vector<std::string> lines{};

    error_manner manner() {
        return {.tell = [this](const failure& f) { lines.push_back(f.message()); },
                .tell_other = [this](const std::string& why) { lines.push_back(why); },
                .code = [](const failure& f) { return f.error_number; }};
    }
};

arguments form_of(int usage_exit) {
    return arguments({.command = "try",
                      .usage = "[OPTION]...",
                      .description = "Tries.",
                      .examples = {},
                      .usage_exit = usage_exit});
}

int one(const words&, const closed_streams&) { return 1; }
int two(const words&, const closed_streams&) { return 2; }

}  // namespace

TEST_CASE("a failure of a step is told, and its exit code found, in the manner of the command") {
    listener heard;
    const failure f{step::connect, ENOENT, "/s", {}};
    CHECK(told(heard.manner(), [&]() -> int { throw spawn_error(f); }) == ENOENT);
    CHECK(heard.lines == std::vector<std::string>{f.message()});
}

TEST_CASE("any other exception is told too, and is a failure of cleanfork itself") {
    listener heard;
    CHECK(told(heard.manner(), []() -> int { throw std::runtime_error("why"); }) == k_exit_failed);
    CHECK(heard.lines == std::vector<std::string>{"why"});
}

TEST_CASE("what a command returns is its exit code, and nothing is told") {
    listener heard;
    CHECK(told(heard.manner(), [] { return 7; }) == 7);
    CHECK(heard.lines.empty());
}

TEST_CASE("a wrong command line ends with its own code, also within a command's manner") {
    listener heard;
    CHECK(told(heard.manner(), []() -> int { throw command_error("wrong", k_exit_usage); }) ==
          k_exit_usage);
    CHECK(heard.lines.empty());
}

TEST_CASE("a form refuses what it does not know, with the usage code of its command") {
    arguments form = form_of(42);
    try {
        form.parse({"--no-such-option"});
        FAIL("it was taken");
    } catch (const command_error& e) {
        CHECK(e.code() == 42);
        CHECK(std::string(e.what()).find("try: ") == 0);
        CHECK(std::string(e.what()).find("(see `cleanfork try --help`)") != std::string::npos);
    }
}

TEST_CASE("a form that is asked for help gives it to whoever prints") {
    arguments form = form_of(2);
    try {
        form.parse({"--help"});
        FAIL("there was no help");
    } catch (const help_asked& help) {
        CHECK(std::string(help.what()).starts_with("Usage: cleanfork try [OPTION]...\nTries.\n"));
    }
}

TEST_CASE("an error about a forkserver that does not answer names its socket and what starts it") {
    const failure absent{step::connect, ECONNREFUSED, "/s", {}};
    CHECK(explain(absent, "/s") ==
          "no forkserver answers at /s: start one with `cleanfork serve --socket /s`");
    const failure elsewhere{step::signal, ESRCH, "child 3", {}};
    CHECK(explain(elsewhere, "/s") == elsewhere.message());
    CHECK(about_server("/s").code(absent) == k_exit_error);
}

TEST_CASE("a command is found by its whole name only") {
    const std::vector<command> commands = {{"one", "", &one}, {"two", "", &two}};
    REQUIRE(find(commands, "two") != nullptr);
    CHECK(find(commands, "two")->run({}, {}) == 2);
    CHECK(find(commands, "tw") == nullptr);
    CHECK(find({}, "one") == nullptr);
}
