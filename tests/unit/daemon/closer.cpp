// The process that closes descriptors in the forkserver's stead.
#include "forkserver/daemon/closer.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "tests/helpers/lingering.hpp"

using namespace cleanfork;
using namespace cleanfork::daemon;

namespace {

struct pipe_ends {
    unique_fd in, out;
};

pipe_ends make_pipe() {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == 0);
    return {unique_fd(ends[0]), unique_fd(ends[1])};
}

bool has_ended(const unique_fd& in) {
    char c = 0;
    return ::read(in.get(), &c, 1) == 0;
}

unique_fd open_null() { return unique_fd(::open("/dev/null", O_RDWR | O_CLOEXEC)); }

}  // namespace

TEST_CASE("a closer closes what it is given, and its numbers are free only after that") {
    const unique_fd null = open_null();
    pipe_ends first = make_pipe(), second = make_pipe();
    const int number = first.out.get();
    std::vector<closer::item> items;
    items.push_back({std::move(first.out)});
    items.push_back({std::move(second.out)});
    closer c;
    REQUIRE(c.start(items, null.get()));
    CHECK(items.empty());
    std::vector<closer::item> left;
    for (;;) {
        CHECK(::fcntl(number, F_GETFD) >= 0);
        if (c.has_ended(left)) break;
    }
    CHECK(left.empty());
    CHECK(has_ended(first.in));
    CHECK(has_ended(second.in));
    CHECK(::fcntl(number, F_GETFD) < 0);
}

TEST_CASE("what is behind one that waits is another's, and one that is killed leaves the rest") {
    const unique_fd null = open_null();
    pipe_ends behind = make_pipe();
    std::vector<closer::item> items;
    testing::lingering socket;
    items.push_back({socket.release(), true});
    items.push_back({std::move(behind.out)});
    closer c;
    REQUIRE(c.start(items, null.get()));
    while (!c.has_stuck()) {
    }
    CHECK(c.is_at_socket());
    CHECK_FALSE(has_ended(behind.in));
    std::vector<closer::item> left;
    SUBCASE("it is left alone") {
        c.leave_rest(left);
        CHECK(c.hangs());
        REQUIRE(left.size() == 1);
        c.kill();
        while (!c.has_ended(left)) {
        }
        REQUIRE(left.size() == 2);
    }
    SUBCASE("it is killed") {
        c.kill();
        while (!c.has_ended(left)) {
        }
        REQUIRE(left.size() == 2);
    }
    CHECK_FALSE(has_ended(behind.in));
    // Another goes on; what was closed already is closed again, which waits for nobody.
    closer next;
    REQUIRE(next.start(left, null.get()));
    while (!next.has_ended(left)) {
    }
    CHECK(left.empty());
    CHECK(has_ended(behind.in));
    CHECK(socket.read_all() > 0);
}
