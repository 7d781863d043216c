// Handlers inside their boundary: what one throws ends nothing else, and what it waits for goes on.
#include <doctest/doctest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <boost/system/system_error.hpp>
#include <cerrno>
#include <new>
#include <stdexcept>
#include <vector>

#include "forkserver/daemon/loop/boundary.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/memory_reserve.hpp"
#include "forkserver/daemon/loop/watched_fd.hpp"

using namespace cleanfork;
using namespace cleanfork::daemon;
using std::chrono::milliseconds;

TEST_CASE("what is thrown becomes a failure with its errno, or the words of the exception") {
    boost::asio::io_context io;
    const auto failure_of = [&](auto thrower) {
        try {
            thrower();
        } catch (...) {
            return caught(io, "here");
        }
        return failure{};
    };
    CHECK(failure_of([] { throw std::bad_alloc(); }).error_number == ENOMEM);
    const failure system = failure_of([] {
        throw boost::system::system_error(ENOSPC, boost::system::system_category(), "epoll");
    });
    CHECK(system.error_number == ENOSPC);
    CHECK(system.object == "here");
    const failure other = failure_of([] { throw std::runtime_error("its words"); });
    CHECK(other.error_number == 0);
    CHECK(other.detail == "its words");
    CHECK(failure_of([] { throw 3; }).step != step::none);
}

TEST_CASE("a handler that throws does not end the loop, and those after it run") {
    boost::asio::io_context io;
    std::vector<int> ran;
    boost::asio::post(io, [] { throw std::runtime_error("not even bounded"); });
    post_bounded(io, "first", [] { throw std::bad_alloc(); });
    post_bounded(io, "second", [&] { ran.push_back(2); });
    run_bounded(io);
    CHECK(ran == std::vector<int>{2});
}

TEST_CASE("what has to be done is done at the second try, and no third") {
    boost::asio::io_context io;
    int tries = 0;
    insist(io, "here", [&] {
        if (++tries == 1) throw std::bad_alloc();
    });
    CHECK(tries == 2);
    CHECK_THROWS_AS(insist(io, "here",
                           [&] {
                               ++tries;
                               throw std::bad_alloc();
                           }),
                    std::bad_alloc);
    CHECK(tries == 4);
}

TEST_CASE("a timer rings for the earliest of the times it was set to, once") {
    boost::asio::io_context io;
    std::vector<int> rings;
    bounded_timer a(io, "here", [&] { rings.push_back(1); });
    a.set_in(std::chrono::hours(1));
    a.set_in(milliseconds(1));
    a.set_in(std::chrono::hours(2));
    CHECK(a.is_set());
    io.run();
    CHECK(rings.size() == 1);
    CHECK_FALSE(a.is_set());
    a.set_in(milliseconds(1));
    a.cancel();
    io.restart();
    io.run();
    CHECK(rings.size() == 1);
}

TEST_CASE("a timer whose ring throws can be set again") {
    boost::asio::io_context io;
    int rings = 0;
    bounded_timer a(io, "here", [&] {
        if (++rings == 1) throw std::runtime_error("once");
    });
    for (int i = 0; i < 2; ++i) {
        a.set_in(milliseconds(0));
        io.restart();
        run_bounded(io);
    }
    CHECK(rings == 2);
}

TEST_CASE("a descriptor that cannot be watched stays where it was, and is an errno") {
    boost::asio::io_context io;
    watched_fd r(io, "here");
    unique_fd bad(1'000'000);
    CHECK(r.take(bad) == EBADF);
    CHECK(bad.release() == 1'000'000);
    CHECK_FALSE(r.is_open());
    CHECK(r.fd() == -1);
}

TEST_CASE("what waits for a descriptor is called once, and not after the end of its owner") {
    boost::asio::io_context io;
    unique_fd event(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    int called = 0;
    {
        watched_fd r(io, "here");
        REQUIRE(r.take(event) == 0);
        r.await([&] {
            ++called;
            throw std::runtime_error("its own");
        });
        run_bounded(io);
        CHECK(called == 1);
        r.await([&] { ++called; });
        r.close();
        io.restart();
        run_bounded(io);
        CHECK(called == 1);
    }
    io.restart();
    CHECK(io.run() == 0);
}

TEST_CASE("the reserve of memory is there, and can be asked for again") {
    CHECK(memory_reserve::is_there());
    CHECK(memory_reserve::is_there());
}
