// Statuses that belong to nobody: kept, up to a number, the oldest forgotten first.
#include "forkserver/daemon/children/unclaimed.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <vector>

using namespace cleanfork;
using namespace cleanfork::daemon;

namespace {

// Its template has reaped it.
ipc::process_ref ended_process() {
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(0);
    ipc::process_ref p(pid, ipc::pidfd_open(pid));
    REQUIRE(p.reap(0).end.has_value());
    return p;
}

// Children that templates forked: their ends are told, and nothing is watched.
struct family final : private child_table_owner {
    event_loop io;
    child_table children{io, *this};
    logger log{log_level::error};
    int exits = 0;

    child& ended_and_kept() {
        child_origin origin;
        origin.lifetime.keep = true;
        origin.forked_by = generation_id(1);
        child& c = **children.add(std::move(origin), ended_process(), 0);
        CHECK(children.ended(c, {.wait_status = 0}));
        return c;
    }

private:
    void on_exit(child&) override { ++exits; }
    void on_exits_drained() override {}
};

}  // namespace

TEST_CASE("unclaimed statuses are kept up to a number, and the oldest goes first") {
    family f;
    unclaimed kept(f.children, f.log, 2);
    std::vector<child_id> ids;
    for (int i = 0; i < 3; ++i) {
        child& c = f.ended_and_kept();
        ids.push_back(c.id);
        kept.add(c);
    }
    CHECK(f.exits == 3);
    CHECK(f.children.find(ids[0]) == nullptr);
    CHECK(f.children.find(ids[1]) != nullptr);
    CHECK(f.children.find(ids[2]) != nullptr);
    CHECK(f.children.alive() == 0);
    CHECK(f.children.size() == 2);
}

TEST_CASE("one that was waited for meanwhile makes no other go") {
    family f;
    unclaimed kept(f.children, f.log, 2);
    child& first = f.ended_and_kept();
    const child_id claimed = first.id;
    kept.add(first);
    child& second = f.ended_and_kept();
    const child_id stays = second.id;
    kept.add(second);
    f.children.forget(claimed);
    kept.add(f.ended_and_kept());
    CHECK(f.children.find(stays) != nullptr);
    CHECK(f.children.size() == 2);
}

TEST_CASE("a child's end is told once, whoever tells it again") {
    family f;
    child& c = f.ended_and_kept();
    CHECK(f.children.ended(c, {.wait_status = 7}));
    f.children.adopt(c);
    f.children.reap(c);
    CHECK(f.exits == 1);
    CHECK(c.exit->wait_status == 0);
    CHECK(f.children.exited_total() == 1);
}

TEST_CASE("what is told of a child that lives is not believed") {
    family f;
    child_origin origin;
    origin.forked_by = generation_id(1);
    child& c = **f.children.add(std::move(origin), {::getpid(), ipc::pidfd_open(::getpid())}, 0);
    CHECK_FALSE(f.children.ended(c, {.wait_status = 0}));
    CHECK(f.exits == 0);
    CHECK(c.origin.forked_by == generation_id(1));
}
