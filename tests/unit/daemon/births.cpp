// Processes that take their time to begin: what becomes of them when their session ends.
#include "forkserver/daemon/children/births.hpp"

#include <doctest/doctest.h>

#include <csignal>
#include <memory>
#include <optional>
#include <string>

#include "ipc/base/features.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"
#include "tests/unit/spawn/spawn_request.hpp"

using namespace cleanfork;
using namespace cleanfork::daemon;

namespace {

struct nobody final : births_owner {
    void on_births_looked_at() override {}
};

struct told final : born {
    explicit told(std::optional<result<spawn::spawned>>& into) : into_(into) {}
    void begun(result<spawn::spawned> process) override { into_.emplace(std::move(process)); }

private:
    std::optional<result<spawn::spawned>>& into_;
};

constexpr session_id k_session{7};

struct scene {
    scene() {
        auto made = spawn::launcher::create(ipc::probe_features(), 1024);
        REQUIRE(made.has_value());
        launcher.emplace(std::move(*made));
    }
    // A process that nobody has waited for.
    pid_t add(std::initializer_list<const char*> argv) {
        auto p = spawn::planned(spawn::spawn_request(argv), spawn::make_base(), launcher->self());
        auto b = launcher->begin(std::move(p));
        REQUIRE(b.has_value());
        const pid_t pid = (*b)->process().pid();
        birth_cause cause;
        cause.session = k_session;
        late.add(births::make_room(), std::move(*b), std::move(cause),
                 std::make_unique<told>(what));
        return pid;
    }

    event_loop io;
    nobody owner;
    std::optional<spawn::launcher> launcher;
    births late{io, owner};
    std::optional<result<spawn::spawned>> what;
};

}  // namespace

TEST_CASE("one that has begun when its session ends is told as begun: it may have started others") {
    scene s;
    const pid_t pid = s.add({"/bin/sleep", "1000"});
    const std::string exe = "/proc/" + std::to_string(pid) + "/comm";
    while (ipc::read_file(AT_FDCWD, exe).value_or("") != "sleep\n") ::sched_yield();
    s.late.drop(k_session);
    REQUIRE(s.what.has_value());
    REQUIRE(s.what->has_value());
    spawn::spawned& process = **s.what;
    CHECK(process.process.pid() == pid);
    CHECK(s.late.all().empty());
    process.process.signal(SIGKILL);
    (void)process.process.reap(0);
}

TEST_CASE("one that cannot begin fails when its session ends, and leaves nobody") {
    scene s;
    s.add({"/no/such/program"});
    s.late.drop(k_session);
    REQUIRE(s.what.has_value());
    CHECK_FALSE(s.what->has_value());
    while (!s.late.all().empty()) (void)s.io.run_once();
}

TEST_CASE("one that has begun is told as soon as somebody looks, and nothing is waited for then") {
    scene s;
    const pid_t pid = s.add({"/bin/sleep", "1000"});
    while (!s.what.has_value()) {
        ::sched_yield();
        s.late.tell_begun();
    }
    REQUIRE(s.what->has_value());
    spawn::spawned& process = **s.what;
    CHECK(process.process.pid() == pid);
    CHECK(s.late.all().empty());
    s.io.run();
    process.process.signal(SIGKILL);
    (void)process.process.reap(0);
}

TEST_CASE("those that just have been made are waited for, and do not count as slow") {
    scene s;
    CHECK(s.late.patience(k_session).count() > 0);
    s.add({"/bin/true"});
    CHECK(s.late.patience(k_session).count() > 0);
    while (!s.what.has_value()) {  // where the machine lets nobody run, its time is over
        s.late.await_fresh();
        if (!s.what.has_value()) (void)s.io.run_once();
    }
    REQUIRE(s.what->has_value());
    CHECK((**s.what).process.reap(0).end.has_value());
}
