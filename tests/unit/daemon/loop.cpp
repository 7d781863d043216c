// Handlers inside their boundary: what one throws ends nothing else, and what it waits for goes on.
#include <doctest/doctest.h>
#include <sys/eventfd.h>
#include <unistd.h>

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
    event_loop io;
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
    event_loop io;
    std::vector<int> ran;
    io.post("nothing", [] { throw std::runtime_error("not even bounded"); });
    post_bounded(io, "first", [] { throw std::bad_alloc(); });
    post_bounded(io, "second", [&] { ran.push_back(2); });
    io.run();
    CHECK(ran == std::vector<int>{2});
}

TEST_CASE("what has to be done is done at the second try, and no third") {
    event_loop io;
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
    event_loop io;
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
    io.run();
    CHECK(rings.size() == 1);
}

TEST_CASE("a timer whose ring throws can be set again") {
    event_loop io;
    int rings = 0;
    bounded_timer a(io, "here", [&] {
        if (++rings == 1) throw std::runtime_error("once");
    });
    for (int i = 0; i < 2; ++i) {
        a.set_in(milliseconds(0));
        io.run();
    }
    CHECK(rings == 2);
}

TEST_CASE("a descriptor that cannot be watched stays where it was, and is an errno") {
    event_loop io;
    watched_fd r(io, "here");
    unique_fd bad(1'000'000);
    CHECK(r.take(bad) == EBADF);
    CHECK(bad.release() == 1'000'000);
    CHECK_FALSE(r.is_open());
    CHECK(r.fd() == -1);
}

TEST_CASE("what waits for a descriptor is called once, and not after the end of its owner") {
    event_loop io;
    unique_fd event(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    int called = 0;
    {
        watched_fd r(io, "here");
        REQUIRE(r.take(event) == 0);
        r.await([&] {
            ++called;
            throw std::runtime_error("its own");
        });
        io.run();
        CHECK(called == 1);
        r.await([&] { ++called; });
        r.close();
        io.run();
        CHECK(called == 1);
    }
    io.run();
    CHECK(called == 1);
}

namespace {

struct ends_told final : ends_owner {
    std::vector<std::uint64_t> numbers;
    int rounds = 0;
    void on_end_of_process(std::uint64_t number) override { numbers.push_back(number); }
    void on_ends_told() override { ++rounds; }
};

// Ready to read, until it is read.
unique_fd ready_event() { return unique_fd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)); }

}  // namespace

TEST_CASE("who waits again is called again for what it has left") {
    event_loop io;
    unique_fd event = ready_event();
    watched_fd r(io, "here");
    REQUIRE(r.take(event) == 0);
    std::vector<unsigned> in_a_row;
    const std::function<void()> read = [&] {
        in_a_row.push_back(r.reads_in_a_row());
        if (in_a_row.size() < 3) r.await(read);
    };
    r.await(read);
    io.run();
    (void)io.run_once({});
    in_a_row.push_back(0);
    r.await(read);
    io.run();
    CHECK(in_a_row == std::vector<unsigned>{1, 2, 3, 0, 1});
}

TEST_CASE("what nobody waits for comes once, and is there for who waits later") {
    event_loop io;
    unique_fd event = ready_event();
    watched_fd r(io, "here");
    REQUIRE(r.take(event) == 0);
    CHECK(io.run_once({}));
    CHECK_FALSE(io.run_once({}));
    int called = 0;
    r.await([&] { ++called; });
    io.run();
    CHECK(called == 1);
}

TEST_CASE("of two that are ready the first may close the second") {
    event_loop io;
    unique_fd one = ready_event(), other = ready_event();
    watched_fd a(io, "here"), b(io, "here");
    REQUIRE(a.take(one) == 0);
    REQUIRE(b.take(other) == 0);
    int called = 0;
    const auto read = [&](watched_fd& who) {
        ++called;
        who.close();
    };
    a.await([&] { read(b); });
    b.await([&] { read(a); });
    io.run();
    CHECK(called == 1);
}

TEST_CASE("to write and to read are waited for apart") {
    event_loop io;
    unique_fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    watched_fd r(io, "here");
    REQUIRE(r.take(event) == 0);
    std::string order;
    r.await([&] { order += "read "; });
    r.await(watched_fd::to::write, [&] {
        order += "write ";
        const std::uint64_t one = 1;
        REQUIRE(::write(r.fd(), &one, sizeof one) == sizeof one);
    });
    io.run();
    CHECK(order == "write read ");
}

TEST_CASE("ends of processes are told by their numbers, and then that these were all") {
    event_loop io;
    ends_told told;
    io.tell_ends_to(told);
    unique_fd events[] = {ready_event(), ready_event(), ready_event()};
    for (std::uint64_t i = 0; i < 3; ++i) CHECK(io.watch_process(events[i].get(), i + 7) == 0);
    io.unwatch_process(events[1].get());
    CHECK(io.run_once());
    CHECK(told.numbers == std::vector<std::uint64_t>{7, 9});
    CHECK(told.rounds == 1);
    CHECK(io.watch_process(-1, 1) == EBADF);
}

TEST_CASE("each turn is told with the time that it took; stop() ends the loop before the next") {
    event_loop io;
    int turns = 0;
    for (int i = 0; i < 3; ++i)
        post_bounded(io, "here", [&] {
            if (turns == 1) io.stop();
        });
    io.run([&](std::uint64_t) { ++turns; });
    CHECK(turns == 2);
}

TEST_CASE("the reserve of memory is there, and can be asked for again") {
    CHECK(memory_reserve::is_there());
    CHECK(memory_reserve::is_there());
}
