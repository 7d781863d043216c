// Closing what is open where close_range(2) is missing, and where /proc is as well.
#include "ipc/base/close_others.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>

#include "ipc/base/fd.hpp"

using namespace cleanfork::ipc;

namespace {

constexpr int k_open[] = {5, 6, 9, 200, 900};

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

// Runs `act` in a copy of this process in which k_open and the standard descriptors are open.
template <class Act>
bool in_copy(Act act) {
    const pid_t copy = ::fork();
    if (copy == 0) {
        close_others({}, 3);
        for (const int fd : k_open) ::dup2(0, fd);
        ::_exit(act() ? 0 : 1);
    }
    int status = 1;
    REQUIRE(::waitpid(copy, &status, 0) == copy);
    return status == 0;
}

// Nothing can be opened any more, /proc/self/fd neither: all numbers below the limit are taken.
void no_descriptor_left() {
    const rlimit three{3, 3};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &three) == 0);
}

bool only_6_and_200_are_open() {
    return is_open(6) && is_open(200) && !is_open(5) && !is_open(9) && !is_open(900) && is_open(2);
}

void close_around_6_and_200() {
    close_one_by_one(3, 5);
    close_one_by_one(7, 199);
    close_one_by_one(201, INT_MAX);
}

}  // namespace

TEST_CASE("all descriptors are closed but those to keep") {
    CHECK(in_copy([] {
        int keep[] = {200, -1, 6};
        close_others(keep, 3);
        return only_6_and_200_are_open();
    }));
}

TEST_CASE("without close_range the open descriptors are closed one by one") {
    CHECK(in_copy([] {
        close_around_6_and_200();
        return only_6_and_200_are_open();
    }));
}

TEST_CASE("they are closed where /proc/self/fd cannot be opened, above a lowered limit too") {
    CHECK(in_copy([] {
        no_descriptor_left();
        close_around_6_and_200();
        return only_6_and_200_are_open();
    }));
}

TEST_CASE("open descriptors are counted without /proc") {
    CHECK(probed_descriptor_count() == open_descriptor_count());
    CHECK(in_copy([] {
        no_descriptor_left();
        return open_descriptor_count() == 3 + std::size(k_open);
    }));
}
