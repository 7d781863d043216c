// Data behind a lock, and who has the role of reading.
#include "client/src/connection/guarded.hpp"

#include <doctest/doctest.h>
#include <poll.h>

#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "client/src/connection/tables.hpp"

using namespace cleanfork::detail;
using namespace std::chrono_literals;

namespace {

// The lock of no connection: roles and waiters ask for nothing but that it is held.
struct fixture {
    guarded<connection_tables> tables{-1, any_io_executor()};
};

bool readable(int fd) {
    pollfd p{fd, POLLIN, 0};
    return ::poll(&p, 1, 0) == 1;
}

}  // namespace

TEST_CASE("many threads change guarded data one after the other") {
    guarded<int> count(0);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&] {
            for (int i = 0; i < 1000; ++i) ++*count.lock();
        });
    for (std::thread& t : threads) t.join();
    CHECK(*count.lock() == 4000);
}

TEST_CASE("another thread has the data while the lock is let go of; then it is held again") {
    guarded<std::string> text("a");
    auto held = text.lock();
    held.unlocked([&] { std::thread([&] { text.lock()->append("b"); }).join(); });
    CHECK(*held == "ab");
    CHECK_THROWS_AS(held.unlocked([] { throw std::runtime_error("no"); }), std::runtime_error);
    CHECK(*held == "ab");  // asserts that it is held
}

TEST_CASE("a wait lets others change the data, and sees the change") {
    guarded<int> value(0);
    std::condition_variable changed;
    auto held = value.lock();
    std::thread other([&] {
        *value.lock() = 7;
        changed.notify_one();
    });
    held.wait(changed, [&] { return *held == 7; });
    CHECK(*held == 7);
    other.join();
    CHECK_FALSE(held.wait_until(changed, std::chrono::steady_clock::now(), [] { return false; }));
}

TEST_CASE_FIXTURE(fixture, "a waiter that polls is woken by its event as by the condition") {
    waiter w;
    auto held = tables.lock();
    CHECK_FALSE(w.has_event(held));
    const int event = w.event(held);
    REQUIRE(event >= 0);
    CHECK(w.event(held) == event);
    CHECK_FALSE(readable(event));
    w.promote(held);
    CHECK(readable(event));
    w.clear_event(held);
    CHECK_FALSE(readable(event));
    CHECK(w.sleep(held, {}));  // promoted: does not sleep
    CHECK(w.take_promotion(held));
    CHECK_FALSE(w.take_promotion(held));
    CHECK_FALSE(w.sleep(held, steady::now()));
    w.set_ready(held);
    CHECK(w.sleep(held, {}));
    CHECK(readable(event));
}

TEST_CASE_FIXTURE(fixture, "one thread has the reader's role, and the others do not get it") {
    reader_role role;
    CHECK_FALSE(role.taken());
    CHECK(role.take());
    CHECK_FALSE(role.take());
    CHECK_FALSE(role.pass_on(tables.lock()));  // nobody waits
    CHECK_FALSE(role.taken());
    CHECK(role.take());
}

TEST_CASE_FIXTURE(fixture, "the role passes to a follower that has nothing yet, and stays taken") {
    reader_role role;
    waiter served, promoted, next;
    auto held = tables.lock();
    for (waiter* w : {&served, &promoted, &next}) role.follow(*w);
    served.set_ready(held);
    promoted.promote(held);
    REQUIRE(role.take());
    CHECK(role.pass_on(held));
    CHECK(role.taken());
    CHECK(next.promoted(held));
    CHECK_FALSE(served.promoted(held));
    role.unfollow(next);
    CHECK_FALSE(role.pass_on(held));  // of `next`, that leaves: the others have something
    CHECK_FALSE(role.taken());
}
