// Which program a child runs, with which arguments, environment and directory.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "ipc/wire/limits.hpp"
#include "tests/integration/attributes/inspection.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

namespace fs = std::filesystem;

// A directory of the test's own, gone with it.
class scratch {
public:
    scratch() {
        std::string pattern = (fs::temp_directory_path() / "cleanfork-attributes-XXXXXX").string();
        REQUIRE(::mkdtemp(pattern.data()) != nullptr);
        path_ = fs::canonical(pattern);
    }
    scratch(const scratch&) = delete;
    scratch& operator=(const scratch&) = delete;
    ~scratch() {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }
    [[nodiscard]] const fs::path& path() const { return path_; }
    [[nodiscard]] std::string file(const std::string& name, const std::string& text,
                                   mode_t mode) const {
        const std::string whole = path_ / name;
        std::ofstream(whole) << text;
        ::chmod(whole.c_str(), mode);
        return whole;
    }

private:
    fs::path path_;
};

failure why(const client& c, const spawn_options& o) {
    auto r = c.try_run(o);
    REQUIRE_FALSE(r.has_value());
    return r.error();
}

spawn_options shell(const std::string& script) {
    return {.program = "/bin/sh", .args = {"-c", script}, .out = stdio::pipe{}};
}

}  // namespace

TEST_CASE("argv reaches the child as it was given") {
    with_each_variant([](const client& c) {
        const run_result r = c.run({.program = "/usr/bin/printf",
                                    .args = {"%s|", "", "two words", "\xff\xfe", "-x", "--"},
                                    .out = stdio::pipe{}});
        CHECK(r.out == "|two words|\xff\xfe|-x|--|");
        const json seen = inspect(c, {.program = {}, .args = {"a", "", "c d"}});
        CHECK(seen["argv"] == json({helper("inspect"), "a", "", "c d"}));
        CHECK(seen["exe"] == fs::canonical(helper("inspect")).string());
    });
}

TEST_CASE("argv[0] is what is asked for, the program stays the one that is named") {
    with_each_variant([](const client& c) {
        const json seen = inspect(c, {.program = {}, .args = {"x"}, .argv0 = "-login"});
        CHECK(seen["argv"] == json({"-login", "x"}));
        CHECK(seen["exe"] == fs::canonical(helper("inspect")).string());
        CHECK(inspect(c, {.program = {}, .argv0 = ""})["argv"] == json({""}));
    });
}

TEST_CASE("a name without a slash is searched in PATH of the child's environment") {
    const scratch dir;
    const fs::path first = dir.path() / "first", second = dir.path() / "second";
    fs::create_directory(first);
    fs::create_directory(second);
    fs::create_symlink(helper("inspect"), second / "named-program");
    with_each_variant([&](const client& c) {
        const std::string path = first.string() + ":" + second.string();
        const auto in_path = [](const std::string& value) {
            return environment{.set = {{"PATH", value}}};
        };
        const json seen = inspect(c, {.program = "named-program", .env = in_path(path)});
        CHECK(seen["argv"] == json({"named-program"}));
        CHECK(seen["exe"] == fs::canonical(helper("inspect")).string());
        // The forkserver's and the caller's PATH do not count.
        const failure missing = why(c, {.program = "sh", .env = in_path(first.string())});
        CHECK(missing.step == step::exec);
        CHECK(missing.error_number == ENOENT);
        CHECK(missing.object == "sh");
    });
}

TEST_CASE("a search goes on behind a file that may not be run, and then says so") {
    const scratch dir;
    const fs::path closed = dir.path() / "closed", open = dir.path() / "open";
    fs::create_directory(closed);
    fs::create_directory(open);
    std::ofstream(closed / "tool") << "#!/bin/sh\n";
    fs::permissions(closed / "tool", fs::perms::owner_read);
    const auto run_tool = [&](const client& c, const fs::path& path) {
        return c.try_run({.program = "tool", .env = {.set = {{"PATH", path.string()}}}});
    };
    with_each_variant([&](const client& c) {
        const auto refused = run_tool(c, closed.string() + ":" + open.string());
        REQUIRE_FALSE(refused.has_value());
        CHECK(refused.error().step == step::exec);
        CHECK(refused.error().error_number == EACCES);
    });
    std::ofstream(open / "tool") << "#!/bin/sh\nexit 7\n";
    fs::permissions(open / "tool", fs::perms::owner_all);
    with_each_variant([&](const client& c) {
        const auto ran = run_tool(c, closed.string() + ":" + open.string());
        REQUIRE(ran.has_value());
        CHECK(ran->status.code() == 7);
    });
}

TEST_CASE("without a PATH the system's directories are searched, and an empty part is the cwd") {
    const scratch dir;
    fs::create_symlink(helper("inspect"), dir.path() / "here");
    with_each_variant([&](const client& c) {
        CHECK(c.run({.program = "true", .env = {.clear = true}}).status.success());
        for (const std::string path : {"", ":/nowhere", "/nowhere:", "/nowhere::/nowhere"}) {
            INFO("PATH=" << path);
            const json seen = inspect(
                c,
                {.program = "here", .env = {.set = {{"PATH", path}}}, .cwd = dir.path().string()});
            CHECK(seen["cwd"] == dir.path().string());
        }
    });
}

TEST_CASE("a relative path to a program starts from the child's directory") {
    const scratch dir;
    fs::create_directory(dir.path() / "bin");
    fs::create_symlink(helper("inspect"), dir.path() / "bin/tool");
    with_each_variant([&](const client& c) {
        const json seen = inspect(c, {.program = "bin/tool", .cwd = dir.path().string()});
        CHECK(seen["argv"] == json({"bin/tool"}));
        const failure f = why(c, {.program = "bin/tool"});
        CHECK(f.step == step::exec);
        CHECK(f.object == "bin/tool");
    });
}

TEST_CASE("a program is run by descriptor, and does not keep the descriptor") {
    const unique_fd program = open_program(helper("inspect"));
    with_each_variant([&](const client& c) {
        const json seen = inspect(c, {.program = program.get(), .argv0 = "named"});
        CHECK(seen["argv"] == json({"named"}));
        CHECK(seen["exe"] == fs::canonical(helper("inspect")).string());
        CHECK(seen["fds"].size() == 3);
    });
}

TEST_CASE("a program's descriptor survives a map that wants every low number") {
    const unique_fd program = open_program(helper("inspect"));
    const unique_fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    spawn_options o{.program = program.get(), .cwd = "/usr"};
    for (int target = 3; target < 60; ++target) o.fds.push_back({null.get(), target});
    with_each_variant([&](const client& c) {
        const json seen = inspect(c, o);
        CHECK(seen["fds"].size() == 60);
        CHECK(seen["cwd"] == "/usr");
    });
}

TEST_CASE("a script is run by path, and by descriptor fails with the reason") {
    const scratch dir;
    const std::string path = dir.file("script", "#!/bin/sh\necho \"$0 $1\"\n", 0755);
    const unique_fd script = open_program(path);
    with_each_variant([&](const client& c) {
        const run_result r = c.run({.program = path, .args = {"x"}, .out = stdio::pipe{}});
        CHECK(r.out == path + " x\n");
        const failure f = why(c, {.program = script.get()});
        CHECK(f.step == step::exec);
        CHECK(f.error_number == ENOENT);
        CHECK(f.message().find("script") != std::string::npos);
    });
}

TEST_CASE("the environment is the session's base unless the request says otherwise") {
    const scoped_variable set("CLEANFORK_TEST_BASE", "base value");
    const client c = launch_without("");
    const json seen = inspect(c);
    CHECK(variable(seen, "CLEANFORK_TEST_BASE") == "base value");
    CHECK_FALSE(variable(seen, "LISTEN_FDS"));

    SUBCASE("set adds and replaces") {
        const json changed = inspect(
            c, {.program = {}, .env = {.set = {{"CLEANFORK_TEST_BASE", "a=b"}, {"ADDED", ""}}}});
        CHECK(variable(changed, "CLEANFORK_TEST_BASE") == "a=b");
        CHECK(variable(changed, "ADDED") == "");
        CHECK(changed["environment"].size() == seen["environment"].size() + 1);
    }
    SUBCASE("unset takes away, and set comes after it") {
        const environment env{.unset = {"CLEANFORK_TEST_BASE", "ABSENT", "AGAIN"},
                              .set = {{"AGAIN", "1"}}};
        const json changed = inspect(c, {.program = {}, .env = env});
        CHECK_FALSE(variable(changed, "CLEANFORK_TEST_BASE"));
        CHECK(variable(changed, "AGAIN") == "1");
    }
    SUBCASE("exactly these variables") {
        const json changed = inspect(
            c, {.program = {}, .env = environment::exactly({{"ONE", "1"}, {"TWO", "\xff"}})});
        CHECK(changed["environment"].size() == 2);
        CHECK(variable(changed, "ONE") == "1");
        CHECK(c.run({.program = "/usr/bin/env",
                     .out = stdio::pipe{},
                     .env = environment::exactly({{"TWO", "\xff\xfe"}})})
                  .out == "TWO=\xff\xfe\n");
    }
    SUBCASE("nothing at all") {
        CHECK(inspect(c, {.program = {}, .env = {.clear = true}})["environment"].empty());
    }
    SUBCASE("update_base() takes the caller's of now") {
        const scoped_variable later("CLEANFORK_TEST_BASE", "later");
        CHECK(variable(inspect(c), "CLEANFORK_TEST_BASE") == "base value");
        c.update_base();
        CHECK(variable(inspect(c), "CLEANFORK_TEST_BASE") == "later");
    }
}

TEST_CASE("the working directory is the session's base, a path, or a descriptor") {
    const scratch dir;
    fs::create_directory(dir.path() / "below");
    const std::string here = fs::current_path();
    with_each_variant([&](const client& c) {
        CHECK(inspect(c)["cwd"] == here);
        CHECK(inspect(c, {.program = {}, .cwd = dir.path().string()})["cwd"] ==
              dir.path().string());
        for (const int how : {O_RDONLY, O_PATH}) {
            const unique_fd fd(
                ::open((dir.path() / "below").c_str(), how | O_DIRECTORY | O_CLOEXEC));
            const json seen = inspect(c, {.program = {}, .cwd = fd.get()});
            CHECK(seen["cwd"] == (dir.path() / "below").string());
            CHECK(seen["fds"].size() == 3);
        }
    });
}

TEST_CASE("a relative working directory starts from the base, which stays though it is renamed") {
    const scratch dir;
    fs::create_directories(dir.path() / "base/below");
    const fs::path before = fs::current_path();
    fs::current_path(dir.path() / "base");
    const client c = launch_without("");
    fs::current_path(before);

    CHECK(inspect(c)["cwd"] == (dir.path() / "base").string());
    CHECK(inspect(c, {.program = {}, .cwd = "below"})["cwd"] ==
          (dir.path() / "base/below").string());
    fs::rename(dir.path() / "base", dir.path() / "moved");
    CHECK(inspect(c, {.program = {}, .cwd = "below"})["cwd"] ==
          (dir.path() / "moved/below").string());
    c.update_base();
    CHECK(inspect(c)["cwd"] == before.string());
}

TEST_CASE("what an argument, a variable or a path cannot be is refused before a process exists") {
    const std::string nul("a\0b", 3);
    const std::string too_long(ipc::k_max_string + 1, 'x');
    const std::string long_path(ipc::k_max_path, 'x');
    struct refused {
        std::string what;
        spawn_options options;
        int error_number;
    };
    const std::vector<refused> all = {
        {"NUL in an argument", {.program = "/bin/true", .args = {nul}}, EINVAL},
        {"NUL in argv[0]", {.program = "/bin/true", .argv0 = nul}, EINVAL},
        {"NUL in the program", {.program = "/bin/true" + nul}, EINVAL},
        {"NUL in a searched name", {.program = nul}, EINVAL},
        {"NUL in the directory", {.program = "/bin/true", .cwd = "/" + nul}, EINVAL},
        {"NUL in a value", {.program = "/bin/true", .env = {.set = {{"A", nul}}}}, EINVAL},
        {"NUL in a name", {.program = "/bin/true", .env = {.set = {{nul, "1"}}}}, EINVAL},
        {"NUL in a name to unset", {.program = "/bin/true", .env = {.unset = {nul}}}, EINVAL},
        {"an empty name", {.program = "/bin/true", .env = {.set = {{"", "1"}}}}, EINVAL},
        {"an empty name to unset", {.program = "/bin/true", .env = {.unset = {""}}}, EINVAL},
        {"= in a name to unset", {.program = "/bin/true", .env = {.unset = {"A=B"}}}, EINVAL},
        {"= in a name makes it another's",
         {.program = "/bin/true", .env = {.set = {{"A", "1"}, {"A=B", "2"}}}},
         EINVAL},
        {"an argument too long", {.program = "/bin/true", .args = {too_long}}, E2BIG},
        {"a variable too long", {.program = "/bin/true", .env = {.set = {{"A", too_long}}}}, E2BIG},
        {"a program's path too long", {.program = "/" + long_path}, E2BIG},
        {"a directory too long", {.program = "/bin/true", .cwd = long_path}, E2BIG},
    };
    with_each_variant([&](const client& c) {
        const leftovers before = leftovers_of(c);
        for (const refused& r : all) {
            INFO(r.what);
            const failure f = why(c, r.options);
            CHECK(f.step == step::request);
            CHECK(f.error_number == r.error_number);
            CHECK_FALSE(f.detail.empty());
        }
        CHECK(leftovers_of(c) == before);
    });
}

TEST_CASE("as many arguments and variables as the kernel takes are passed; it refuses the rest") {
    const client c = launch_without("");
    spawn_options o = shell("echo $#");
    o.args.push_back("sh");
    constexpr std::size_t k_many = 150'000;  // of two bytes and a pointer each: below 2 MiB
    o.args.resize(o.args.size() + k_many, "x");
    CHECK(c.run(o).out == std::to_string(k_many) + "\n");
    o.args.resize(900'000, "x");
    failure f = why(c, o);
    CHECK(f.step == step::exec);
    CHECK(f.error_number == E2BIG);
    o.args.resize(ipc::k_max_arguments, "");
    f = why(c, o);
    CHECK(f.step == step::request);
    CHECK(f.error_number == E2BIG);

    spawn_options many{.program = "/usr/bin/env", .out = stdio::pipe{}};
    many.env.clear = true;
    constexpr std::size_t k_variables = 65'537;
    for (std::size_t i = 0; i < k_variables; ++i) many.env.set.emplace("V" + std::to_string(i), "");
    const std::string out = c.run(many).out;
    CHECK(std::count(out.begin(), out.end(), '\n') == static_cast<long>(k_variables));
    many.env.unset.assign(ipc::k_max_environment - k_variables + 1, "ONE");
    CHECK(why(c, many).error_number == E2BIG);
}

TEST_CASE("a string of the longest size is passed whole") {
    const client c = launch_without("");
    // The kernel counts the NUL, and so may refuse what the forkserver lets pass.
    const std::string longest(ipc::k_max_string - 1, 'y');
    const run_result r =
        c.run({.program = "/usr/bin/printf", .args = {"%s", longest}, .out = stdio::pipe{}});
    CHECK(r.out == longest);
    const failure f =
        why(c, {.program = "/bin/true", .args = {std::string(ipc::k_max_string, 'y')}});
    CHECK(f.step == step::exec);
    CHECK(f.error_number == E2BIG);
}

TEST_CASE("sockets for activation are 3, 4 and on, with the variables of sd_listen_fds") {
    const unique_fd a(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    const unique_fd b(::open("/dev/full", O_WRONLY | O_CLOEXEC));
    const scoped_variable stale("LISTEN_PID", "1");
    const client fresh = launch_without("");
    const auto check = [&](const client& c) {
        const json seen =
            inspect(c, {.program = {}, .listen_fds = {{a.get(), "http"}, {b.get(), "https.tls"}}});
        CHECK(variable(seen, "LISTEN_FDS") == "2");
        CHECK(variable(seen, "LISTEN_PID") == std::to_string(seen["pid"].get<int>()));
        CHECK(variable(seen, "LISTEN_FDNAMES") == "http:https.tls");
        CHECK(seen["fds"].size() == 5);
        CHECK(seen["fds"]["3"]["link"] == "/dev/zero");
        CHECK(seen["fds"]["4"]["link"] == "/dev/full");
        CHECK(seen["fds"]["3"]["cloexec"] == false);
        // Exactly one of each, whatever the base has.
        int named = 0;
        for (const std::string entry : seen["environment"]) named += entry.starts_with("LISTEN_");
        CHECK(named == 3);
    };
    check(fresh);
    with_each_variant(check);
}

TEST_CASE("activation names and targets that cannot be are refused") {
    const unique_fd a(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    const auto with = [&](const std::string& name) {
        return spawn_options{.program = "/bin/true", .listen_fds = {{a.get(), name}}};
    };
    with_each_variant([&](const client& c) {
        for (const std::string& name : {std::string(), std::string("a:b"), std::string("a b"),
                                        std::string("a\n"), std::string(256, 'n')}) {
            INFO(name);
            CHECK(why(c, with(name)).step == step::request);
        }
        CHECK(c.run(with(std::string(255, 'n'))).status.success());
        spawn_options taken = with("a");
        taken.fds = {{a.get(), 3}};
        CHECK(why(c, taken).object == "descriptor 3");
        spawn_options set = with("a");
        set.env.set = {{"LISTEN_FDS", "7"}};
        CHECK(why(c, set).step == step::request);
    });
}
