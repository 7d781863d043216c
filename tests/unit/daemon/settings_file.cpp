// The file of cleanforkd: what it may say, and what is said of what it may not.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include "forkserver/daemon/config/nearest.hpp"
#include "forkserver/daemon/config/read_file.hpp"
#include "forkserver/daemon/config/template_keys.hpp"

using namespace cleanfork;
using namespace cleanfork::daemon;

namespace {

settings good(std::string_view text) {
    const auto read = parse_settings("f", text);
    if (!read) FAIL(read.error().lines.front());
    return *read;
}

std::vector<std::string> wrong(std::string_view text) {
    const auto read = parse_settings("f", text);
    REQUIRE(read.has_error());
    return read.error().lines;
}

v1::AddTemplateRequest one_template(const std::string& keys) {
    return good("[template.t]\n" + keys).templates.at("t");
}

std::string wrong_key(const std::string& line) {
    const auto lines = wrong("[template.t]\nprogram = \"/p\"\n" + line);
    REQUIRE(lines.size() == 1);
    return lines.front();
}

}  // namespace

TEST_CASE("an empty file changes nothing") {
    const settings usual, read = good("# nothing\n");
    CHECK(read.most.children_per_session == usual.most.children_per_session);
    CHECK(read.socket.empty());
    CHECK(read.templates.empty());
}

TEST_CASE("each setting of the table is a key of the file") {
    for (const setting& s : all_settings()) {
        CAPTURE(s.name);
        const bool counts = std::holds_alternative<std::size_t quotas::*>(s.place);
        const std::string value = counts                  ? "7"
                                  : s.name == "log-level" ? "\"error\""
                                                          : "\"/run/x/socket\"";
        const settings read = good(std::string(s.name) + " = " + value + "\n");
        if (counts) CHECK(read.most.*std::get<std::size_t quotas::*>(s.place) == 7);
    }
    CHECK(good("log-level = \"debug\"").least == log_level::debug);
    CHECK(good("socket = \"/a/b\"").socket == "/a/b");
}

TEST_CASE("what is wrong is told with its line and column, all of it, in the file's order") {
    const auto lines = wrong(
        "max-childern = 5\n"
        "log-level = \"loud\"\n"
        "max-queued = 0\n"
        "socket = \"run/socket\"\n"
        "[template.a]\n"
        "program = \"/p\"\n"
        "  warn = 2\n");
    REQUIRE(lines.size() == 5);
    CHECK(lines[0] == "f:1:1: unknown key \"max-childern\"; did you mean \"max-children\"?");
    CHECK(lines[1] == "f:2:13: this is to be debug, info, warning or error");
    CHECK(lines[2] == "f:3:14: this is to be a number from 1");
    CHECK(lines[3] == "f:4:10: this is to be an absolute path");
    CHECK(lines[4] == "f:7:3: unknown key \"warn\" of a template; did you mean \"warm\"?");
}

TEST_CASE("a text that is no TOML is told by the first place where it is none") {
    CHECK(wrong("max-queued = 5\nmax-queued = 6\n").front().starts_with("f:2:"));
    CHECK(wrong("max-queued 5\n").front().starts_with("f:1:"));
    CHECK(wrong("a = \"\xff\"\n").front().starts_with("f:1:"));
}

TEST_CASE("a number of the wrong kind is refused, and so is one that is too large") {
    for (const char* value : {"-1", "1.5", "\"7\"", "true", "[1]"})
        CHECK(wrong("max-queued = " + std::string(value)).front().starts_with("f:1:14: "));
    CHECK(wrong("max-queued = 9223372036854775808").front().starts_with("f:1:"));
    CHECK(good("max-queued = 9223372036854775807").most.queued_per_session == 9223372036854775807U);
}

TEST_CASE("a template of a program is what `template add` would ask for") {
    const auto t = one_template(
        "program = \"/usr/bin/worker\"\nargs = [\"-v\", \"\"]\nargv0 = \"w\"\nwarm = 4\n"
        "start-timeout = \"2m\"\ncall-timeout = 3\nallow-fd = [7, 9]\ntolerate-unclean = true\n"
        "setenv = {LANG = \"C\", EMPTY = \"\"}\nunset = [\"HOME\"]\nchdir = \"/tmp\"\n"
        "umask = \"077\"\nnice = -3\noom-score-adj = 500\nno-new-privs = true\nsetsid = true\n"
        "cpus = [0, 2]\nrlimit = {nofile = 64, as = \"1G:2G\", core = \"unlimited\"}\n");
    CHECK(t.name() == "t");
    CHECK(t.no_wait());
    CHECK(t.warm() == 4);
    CHECK(t.start_timeout_ms() == 120'000);
    CHECK(t.call_timeout_ms() == 3000);
    CHECK(t.allowed_descriptors_size() == 2);
    CHECK(t.tolerate_unclean());
    const v1::SpawnRequest& p = t.process();
    CHECK(p.as_forkserver());
    CHECK(p.exec().path() == "/usr/bin/worker");
    REQUIRE(p.exec().argv_size() == 3);
    CHECK(p.exec().argv(0) == "w");
    CHECK(p.exec().argv(2).empty());
    CHECK(p.environment().set_size() == 2);
    CHECK(p.environment().unset(0) == "HOME");
    CHECK(p.cwd_path() == "/tmp");
    CHECK(p.umask() == 077);
    CHECK(p.nice() == -3);
    CHECK(p.oom_score_adj() == 500);
    CHECK(p.no_new_privs());
    CHECK(p.process_group() == v1::PROCESS_GROUP_SESSION);
    CHECK(p.cpus_size() == 2);
    REQUIRE(p.rlimits_size() == 3);
    CHECK(p.rlimits(0).soft() == 1ULL << 30);  // as: a table has its keys in order
    CHECK(p.rlimits(0).hard() == 2ULL << 30);
    CHECK(p.rlimits(1).soft() == RLIM_INFINITY);
    CHECK(p.rlimits(2).soft() == 64);
    CHECK(one_template("program = \"worker\"").process().exec().search() == "worker");
}

TEST_CASE("a derived template is a call of its base") {
    const auto t = one_template("from = \"base\"\ninit = \"load\"\nargs = [\"de\"]\n");
    CHECK(t.from() == "base");
    CHECK(t.process().call().template_name() == "base");
    CHECK(t.process().call().entry() == "load");
    CHECK(t.process().call().arguments(0) == "de");
}

TEST_CASE("huge pages are one of glibc's tunables, beside those that are there") {
    const auto t = one_template(
        "program = \"/p\"\nhuge-pages = true\n"
        "setenv = {GLIBC_TUNABLES = \"glibc.malloc.hugetlb=0:glibc.pthread.rseq=0\"}\n");
    REQUIRE(t.process().environment().set_size() == 1);
    CHECK(t.process().environment().set(0) ==
          "GLIBC_TUNABLES=glibc.pthread.rseq=0:glibc.malloc.hugetlb=1");
}

TEST_CASE("a value of a template that is wrong is told with what it is to be") {
    for (const auto& [line, expected] : std::vector<std::pair<std::string, std::string>>{
             {"warm = 4097", "a number from 0 to 4096"},
             {"warm = \"4\"", "a number from 0 to 4096"},
             {"args = \"-v\"", "a list of texts"},
             {"args = [1]", "a text"},
             {"argv0 = \"\"", "a text"},
             {"start-timeout = \"1 week\"", "a duration up to a day"},
             {"start-timeout = 86401", "a duration up to a day"},
             {"huge-pages = 1", "true or false"},
             {"allow-fd = [65536]", "a number from 0 to 65535"},
             {"setenv = [\"A=1\"]", "a table"},
             {"setenv = {\"A=B\" = \"1\"}", "no name of a variable"},
             {"chdir = \"here\"", "an absolute path"},
             {"umask = 22", "an octal mask"},
             {"umask = \"1000\"", "an octal mask"},
             {"nice = 20", "a number from -20 to 19"},
             {"rlimit = {files = 3}", "there is no such limit; the names are nofile, "},
             {"rlimit = {nofile = \"5:4\"}", "SOFT or \"SOFT:HARD\""},
             {"init = \"load\"", "init is of a derived template"}}) {
        CAPTURE(line);
        const std::string told = wrong_key(line);
        CHECK(told.find(expected) != std::string::npos);
        CHECK(told.starts_with(line.starts_with("init") ? "f:1:11: " : "f:3:"));
    }
}

TEST_CASE("keys that do not go together are refused") {
    const auto refused = [](const std::string& keys) {
        return wrong("[template.t]\n" + keys).front();
    };
    CHECK(refused("warm = 1").find("program is missing") != std::string::npos);
    CHECK(refused("from = \"b\"").find("from needs init") != std::string::npos);
    CHECK(refused("from = \"t\"\ninit = \"i\"").find("from itself") != std::string::npos);
    CHECK(refused("from = \"b\"\ninit = \"i\"\nprogram = \"/p\"").find("is no program") !=
          std::string::npos);
    CHECK(refused("from = \"b\"\ninit = \"i\"\nhuge-pages = true").find("heap of its base") !=
          std::string::npos);
    CHECK(wrong("template = 5").front() == "f:1:12: templates are tables: [template.NAME]");
    CHECK(wrong("[template]\nt = 5").front() == "f:2:5: a template is a table: [template.t]");
    CHECK(wrong("[template.\"a b\"]\nprogram = \"/p\"").front().find("no blank") !=
          std::string::npos);
    const std::string circle = wrong(
                                   "[template.a]\nfrom = \"b\"\ninit = \"i\"\n"
                                   "[template.b]\nfrom = \"a\"\ninit = \"i\"\n")
                                   .front();
    CHECK(circle == "f:1:11: it is derived from itself, by way of others");
}

TEST_CASE("the same words are the same definition, and others are another") {
    const auto text = [](const char* keys) { return one_template(keys).SerializeAsString(); };
    CHECK(text("program = \"/p\"\nwarm = 1") == text("warm = 1\nprogram = '/p'"));
    CHECK(text("program = \"/p\"\nwarm = 1") != text("program = \"/p\"\nwarm = 2"));
}

TEST_CASE("more templates than there can be are refused") {
    std::string text;
    for (std::size_t i = 0; i <= ipc::k_max_templates; ++i)
        text += "[template.t" + std::to_string(i) + "]\nprogram = \"/p\"\n";
    CHECK(wrong(text).front().find("at most 1024 templates") != std::string::npos);
}

TEST_CASE("a file that cannot be read is told as any other failure") {
    const auto why = [](const char* path) { return read_settings(path).error().lines.front(); };
    CHECK(why("/no/such/file").find("ENOENT") != std::string::npos);
    CHECK(why("/dev/zero").find("it is no regular file") != std::string::npos);
    CHECK(why("/proc/self").find("it is no regular file") != std::string::npos);
}

TEST_CASE("the nearest name is the one that was meant, unless none is near") {
    const auto hint = [](std::string_view typed) {
        nearest n(typed);
        for (const ipc::option_words& w : template_keys()) n.add(w.name);
        return n.hint();
    };
    CHECK(hint("wram") == "; did you mean \"warm\"?");
    CHECK(hint("environment") == "");
    CHECK(hint("rlimits") == "; did you mean \"rlimit\"?");
    CHECK(hint(std::string(1'000'000, 'w')) == "");
    CHECK(distance("warm", "wram") == 1);
    CHECK(distance("", "abc") == 3);
}
