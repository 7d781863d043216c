// What a session uses: counted by the objects that use it, given back when they go.
#include "forkserver/daemon/sessions/charges.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <vector>

using namespace cleanfork::daemon;

TEST_CASE("a charge counts what it was made for, and gives it back when it is destroyed") {
    const auto of_session = std::make_shared<account>();
    std::vector<charge> queued;
    queued.emplace_back(of_session, amounts{.spawns = 1, .bytes = 100, .descriptors = 2});
    queued.emplace_back(of_session, amounts{.spawns = 1, .bytes = 30, .descriptors = 1});
    CHECK(of_session->spawns == 2);
    CHECK(of_session->bytes == 130);
    CHECK(of_session->descriptors == 3);
    queued.erase(queued.begin());
    CHECK(of_session->spawns == 1);
    CHECK(of_session->bytes == 30);
    CHECK(of_session->descriptors == 1);
    queued.clear();
    CHECK(of_session->spawns == 0);
    CHECK(of_session->bytes == 0);
    CHECK(of_session->descriptors == 0);
}

TEST_CASE("a charge that was moved from counts nothing, and one assigned to gives its own back") {
    const auto of_session = std::make_shared<account>();
    charge first(of_session, {.children = 1});
    charge second(of_session, {.children = 1});
    CHECK(of_session->children == 2);
    first = std::move(second);
    CHECK(of_session->children == 1);
    const charge third(std::move(first));
    CHECK(of_session->children == 1);
    first.give_back();
    second.give_back();
    CHECK(of_session->children == 1);
}

TEST_CASE("what is added to a charge goes with it; twice given back is once") {
    const auto of_session = std::make_shared<account>();
    charge call(of_session, {.spawns = 1});
    call.add({.calls = 1});
    CHECK(of_session->calls == 1);
    call.give_back();
    call.give_back();
    call.add({.calls = 1});  // it has no of_session any more
    CHECK(of_session->calls == 0);
    CHECK(of_session->spawns == 0);
}

TEST_CASE("a charge outlives its session without harm") {
    auto of_session = std::make_shared<account>();
    auto late = std::make_unique<charge>(of_session, amounts{.waits = 1});
    of_session.reset();
    late.reset();
    charge none;
    none.add({.waits = 1});
    none.give_back();
}

TEST_CASE("what sessions of one user use is counted for the user, and outlives neither") {
    const auto user = std::make_shared<amounts>();
    auto first = std::make_shared<account>(user);
    charge one(first, {.spawns = 1, .memory = 100});
    {
        const charge other(std::make_shared<account>(user), {.spawns = 2, .memory = 50});
        CHECK(user->spawns == 3);
        CHECK(user->memory == 150);
        CHECK(first->spawns == 1);
    }
    first.reset();
    CHECK(user->memory == 100);
    one.give_back();
    CHECK(user->spawns == 0);
    CHECK(user->memory == 0);
}
