#include "ipc/base/process_stat.hpp"

#include <doctest/doctest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

using namespace cleanfork;
using namespace cleanfork::ipc;

namespace {

// As Linux 6.1 writes it; the signal masks and limits are as large as they come.
const std::string k_rest =
    " 12 13 14 34816 15 4194560 100 0 0 0 1 2 0 0 20 0 3 0 777 8192 20 18446744073709551615 1 2\n";

}  // namespace

TEST_CASE("a name may hold anything") {
    for (const char* name : {"sh", "a b", "a) R 1 2 3", ")", "", "a\nb"}) {
        CAPTURE(name);
        const auto p = parse_stat("11 (" + std::string(name) + ") S" + k_rest);
        REQUIRE(p.has_value());
        CHECK(p->state == 'S');
        CHECK(p->parent == 12);
        CHECK(p->group == 13);
        CHECK(p->session == 14);
        CHECK(p->terminal == 34816);
        CHECK(p->threads == 3);
        CHECK(p->started == 777);
    }
}

TEST_CASE("what is cut short is no process") {
    const std::string whole = "11 (sh) S" + k_rest;
    for (std::size_t size = 0; size < whole.find(" 8192"); ++size) {
        CAPTURE(size);
        const auto p = parse_stat(whole.substr(0, size));
        // Of the last word any beginning is a number.
        CHECK((!p || p->started / 10 == 77 || p->started == 77 || p->started == 7));
    }
    CHECK_FALSE(parse_stat("").has_value());
    CHECK_FALSE(parse_stat("no parenthesis").has_value());
}

TEST_CASE("of this process, and of one that is not there") {
    const auto own = stat_of(::getpid());
    REQUIRE(own.has_value());
    CHECK(own->parent == ::getppid());
    CHECK(own->group == ::getpgrp());
    CHECK(own->session == ::getsid(0));
    CHECK(own->threads >= 1);
    CHECK_FALSE(own->is_stopped());
    CHECK_FALSE(own->is_dead());
    errno = 0;
    CHECK_FALSE(stat_of(1 << 30).has_value());
    CHECK(errno == ENOENT);
}

TEST_CASE("stopped and dead are told apart") {
    const pid_t child = ::fork();
    if (child == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::raise(SIGSTOP);
        ::_exit(0);
    }
    siginfo_t info{};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &info, WSTOPPED) == 0);
    auto stat = stat_of(child);
    REQUIRE(stat.has_value());
    CHECK(stat->is_stopped());
    CHECK_FALSE(stat->is_dead());
    ::kill(child, SIGCONT);
    REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT) == 0);
    stat = stat_of(child);
    REQUIRE(stat.has_value());
    CHECK(stat->is_dead());
    CHECK(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED) == 0);
}
