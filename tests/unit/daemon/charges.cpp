// What a session uses: counted by the objects that use it, given back when they go.
#include "forkserver/daemon/sessions/charges.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <vector>

using namespace cleanfork::daemon;

TEST_CASE("a charge counts what it was made for, and gives it back when it is destroyed") {
    const auto account = std::make_shared<amounts>();
    std::vector<charge> queued;
    queued.emplace_back(account, amounts{.spawns = 1, .bytes = 100, .descriptors = 2});
    queued.emplace_back(account, amounts{.spawns = 1, .bytes = 30, .descriptors = 1});
    CHECK(account->spawns == 2);
    CHECK(account->bytes == 130);
    CHECK(account->descriptors == 3);
    queued.erase(queued.begin());
    CHECK(account->spawns == 1);
    CHECK(account->bytes == 30);
    CHECK(account->descriptors == 1);
    queued.clear();
    CHECK(account->spawns == 0);
    CHECK(account->bytes == 0);
    CHECK(account->descriptors == 0);
}

TEST_CASE("a charge that was moved from counts nothing, and one assigned to gives its own back") {
    const auto account = std::make_shared<amounts>();
    charge first(account, {.children = 1});
    charge second(account, {.children = 1});
    CHECK(account->children == 2);
    first = std::move(second);
    CHECK(account->children == 1);
    const charge third(std::move(first));
    CHECK(account->children == 1);
    first.give_back();
    second.give_back();
    CHECK(account->children == 1);
}

TEST_CASE("what is added to a charge goes with it; twice given back is once") {
    const auto account = std::make_shared<amounts>();
    charge call(account, {.spawns = 1});
    call.add({.calls = 1});
    CHECK(account->calls == 1);
    call.give_back();
    call.give_back();
    call.add({.calls = 1});  // it has no account any more
    CHECK(account->calls == 0);
    CHECK(account->spawns == 0);
}

TEST_CASE("a charge outlives its session without harm") {
    auto account = std::make_shared<amounts>();
    auto late = std::make_unique<charge>(account, amounts{.waits = 1});
    account.reset();
    late.reset();
    charge none;
    none.add({.waits = 1});
    none.give_back();
}
