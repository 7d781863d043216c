// Replies that are held: until they are released, or as long as they may be.
#include "forkserver/daemon/sessions/held_replies.hpp"

#include <doctest/doctest.h>

#include <set>
#include <vector>

using namespace cleanfork::daemon;
using std::chrono::microseconds;

namespace {

struct owner final : held_replies_owner {
    std::set<child_id> held;
    std::vector<std::uint64_t> told;

    bool is_held(child_id child) override { return held.contains(child); }
    void on_held_long_enough(child_id child) override {
        held.erase(child);
        told.push_back(child.value());
    }
};

}  // namespace

TEST_CASE("held replies are told when their time is over, the first one first") {
    event_loop io;
    owner o;
    held_replies replies(io, o);
    for (const std::uint64_t id : {7U, 3U, 9U}) {
        o.held.insert(child_id(id));
        replies.hold(child_id(id), microseconds(500));
    }
    io.run();
    CHECK(o.told == std::vector<std::uint64_t>{7, 3, 9});
    // The timer is at rest, and begins anew.
    o.held.insert(child_id(1));
    replies.hold(child_id(1), microseconds(0));
    io.run();
    CHECK(o.told == std::vector<std::uint64_t>{7, 3, 9, 1});
}

TEST_CASE("one that was released meanwhile is not told again") {
    event_loop io;
    owner o;
    held_replies replies(io, o);
    o.held.insert(child_id(2));
    replies.hold(child_id(1), microseconds(100));  // released already
    replies.hold(child_id(2), microseconds(100));
    io.run();
    CHECK(o.told == std::vector<std::uint64_t>{2});
}
