// What people type as option values of the command.
#include "client/cli/options/values.hpp"

#include <doctest/doctest.h>
#include <sched.h>
#include <sys/resource.h>

#include <csignal>

#include "client/cli/reports/text_table.hpp"

using namespace cleanfork::cli;
using namespace std::chrono_literals;

TEST_CASE("a duration has a unit, or is in seconds") {
    CHECK(parse_duration("5").value() == 5s);
    CHECK(parse_duration("5s").value() == 5s);
    CHECK(parse_duration("0.5").value() == 500ms);
    CHECK(parse_duration(".5s").value() == 500ms);
    CHECK(parse_duration("1.5m").value() == 90s);
    CHECK(parse_duration("500ms").value() == 500ms);
    CHECK(parse_duration("20us").value() == 20us);
    CHECK(parse_duration("100ns").value() == 100ns);
    CHECK(parse_duration("2h").value() == 2h);
    CHECK(parse_duration("1d").value() == 24h);
    CHECK(parse_duration("0").value() == 0s);
}

TEST_CASE("what is no duration is refused, and so is one that would overflow a clock") {
    for (const char* text : {"", " ", "s", "-1", "+1", "1x", "1 s", "1s ", "inf", "nan", "0x1p3",
                             "1e3", "1..2", "soon", "200000d", "1e", "."})
        CHECK_MESSAGE(parse_duration(text).has_error(), text);
    CHECK(parse_duration("10x").error().why.starts_with("\"10x\" is not a duration"));
}

TEST_CASE("a signal goes by name with or without SIG, in any case, or by number") {
    CHECK(parse_signal("TERM").value() == SIGTERM);
    CHECK(parse_signal("SIGTERM").value() == SIGTERM);
    CHECK(parse_signal("sigusr1").value() == SIGUSR1);
    CHECK(parse_signal("9").value() == SIGKILL);
    CHECK(parse_signal("CLD").value() == SIGCHLD);
    CHECK(parse_signal("IOT").value() == SIGABRT);
    CHECK(parse_signal("RTMIN").value() == SIGRTMIN);
    CHECK(parse_signal("RTMIN+3").value() == SIGRTMIN + 3);
    CHECK(parse_signal("SIGRTMAX-1").value() == SIGRTMAX - 1);
    CHECK(parse_signal("0", true).value() == 0);
    for (const char* text : {"", "0", "-9", "65", "SIG", "TERMS", "RTMIN+99", "RTMIN+", "9x"})
        CHECK_MESSAGE(parse_signal(text).has_error(), text);
}

TEST_CASE("every signal has a name that is understood again") {
    for (int number = 1; number <= SIGRTMAX; ++number)
        CHECK(parse_signal(signal_name(number)).value() == number);
    CHECK(signal_name(SIGSEGV) == "SIGSEGV");
    CHECK(signal_name(SIGRTMIN + 1) == "SIGRTMIN+1");
}

TEST_CASE("a limit has a name, a soft value, and a hard one that defaults to it") {
    const auto limit = [](const char* text) { return parse_rlimit(text).value(); };
    CHECK(limit("nofile=1024").resource == RLIMIT_NOFILE);
    CHECK(limit("nofile=1024").soft == 1024);
    CHECK(limit("nofile=1024").hard == 1024);
    CHECK(limit("NOFILE=1:2").hard == 2);
    CHECK(limit("as=2G").soft == 2ULL << 30);
    CHECK(limit("stack=8m:1T").soft == 8ULL << 20);
    CHECK(limit("stack=8m:1T").hard == 1ULL << 40);
    CHECK(limit("core=unlimited").soft == RLIM_INFINITY);
    CHECK(limit("core=0:unlimited").hard == RLIM_INFINITY);
}

TEST_CASE("a limit that cannot be meant is refused") {
    for (const char* text :
         {"", "nofile", "=5", "nofile=", "nofile=x", "nofile=-1", "nofile=5:", "nofile=5:4",
          "nofile=1KB", "nofile=1 K", "nosuch=1", "core=unlimited:5"})
        CHECK_MESSAGE(parse_rlimit(text).has_error(), text);
    // A number that becomes all ones would mean unlimited.
    CHECK(parse_rlimit("as=18446744073709551615").has_error());
    CHECK(parse_rlimit("as=18014398509481984K").has_error());
    CHECK(parse_rlimit("as=18446744073709551614").value().soft == 18446744073709551614ULL);
}

TEST_CASE("processors are listed with commas and ranges, each once, in order") {
    CHECK(parse_cpus("0").value() == std::vector<unsigned>{0});
    CHECK(parse_cpus("2-3,0,3").value() == std::vector<unsigned>{0, 2, 3});
    CHECK(parse_cpus("8191").value() == std::vector<unsigned>{8191});
    for (const char* text : {"", ",", "0,", "3-2", "1-", "-1", "a", "0-1-2", "8192", "0-99999999"})
        CHECK_MESSAGE(parse_cpus(text).has_error(), text);
}

TEST_CASE("only real-time policies have a priority, and they need one") {
    CHECK(parse_scheduling("fifo:10").value().policy == SCHED_FIFO);
    CHECK(parse_scheduling("rr:99").value().priority == 99);
    CHECK(parse_scheduling("batch").value().policy == SCHED_BATCH);
    CHECK(parse_scheduling("idle:0").value().priority == 0);
    for (const char* text : {"", "fifo", "fifo:0", "rr:100", "other:5", "deadline", "FIFO"})
        CHECK_MESSAGE(parse_scheduling(text).has_error(), text);
}

TEST_CASE("a lifetime is kept, or a signal with a grace") {
    CHECK(parse_lifetime("keep").value().keep);
    CHECK(parse_lifetime("INT").value().signal == SIGINT);
    CHECK(parse_lifetime("INT").value().grace == cleanfork::lifetime{}.grace);
    CHECK(parse_lifetime("TERM:500ms").value().grace == 500ms);
    CHECK(parse_lifetime("KILL:0").value().grace == 0ms);
    // Never less than asked for.
    CHECK(parse_lifetime("TERM:1us").value().grace == 1ms);
    for (const char* text : {"", "forever", "keep:5", "TERM:", "TERM:x", "TERM:25h", ":5"})
        CHECK_MESSAGE(parse_lifetime(text).has_error(), text);
}

TEST_CASE("descriptors, masks and variables are taken apart") {
    CHECK(parse_fd_mapping("5").value().target == 5);
    CHECK(parse_fd_mapping("5:3").value().source == 5);
    CHECK(parse_fd_mapping("5:3").value().target == 3);
    for (const char* text : {"", ":", "5:", ":3", "-1", "5:-1", "x", "5:3:1", "99999999999"})
        CHECK_MESSAGE(parse_fd_mapping(text).has_error(), text);

    CHECK(parse_listen_fd("http=5").value().name == "http");
    CHECK(parse_listen_fd("a=b=5").value().name == "a=b");
    for (const char* text : {"", "5", "=5", "http=", "http=x"})
        CHECK_MESSAGE(parse_listen_fd(text).has_error(), text);

    CHECK(parse_umask("027").value() == 027);
    CHECK(parse_umask("0").value() == 0);
    for (const char* text : {"", "8", "1000", "-1", "0o7"})
        CHECK_MESSAGE(parse_umask(text).has_error(), text);

    CHECK(parse_assignment("A=b=c").value().second == "b=c");
    CHECK(parse_assignment("A=").value().second.empty());
    for (const char* text : {"", "A", "=b"})
        CHECK_MESSAGE(parse_assignment(text).has_error(), text);
}

TEST_CASE("times are shown with three digits and a unit") {
    CHECK(show_duration(1500ms) == "1.5 s");
    CHECK(show_duration(100ms) == "100 ms");
    CHECK(show_duration(3us) == "3 us");
    CHECK(show_duration(0ns) == "0 us");
    CHECK(show_duration(3600s) == "3600 s");
    CHECK(show_duration(std::chrono::nanoseconds(999'999'999)) == "1000 ms");
    CHECK(show_age(59s) == "59s");
    CHECK(show_age(61s) == "1m 1s");
    CHECK(show_age(26h) == "1d 2h");
}

TEST_CASE("a table is aligned, cut at the width, and free of control characters") {
    CHECK(table({{"ID", "NAME"}, {"10", "a"}, {"9", "bcdef"}}, {0}, 0) ==
          "ID  NAME\n10  a\n 9  bcdef\n");
    CHECK(table({{"ID", "NAME"}, {"9", "bcdef"}}, {}, 6) == "ID  NA\n9   bc\n");
    CHECK(table({}, {}, 0).empty());
    CHECK(printable("a\n\033[31m\x7f") == "a??[31m?");
}
