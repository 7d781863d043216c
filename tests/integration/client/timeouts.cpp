// What run() does when its timeout passes.
#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "tests/integration/client/client_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

struct timed_out {
    failure why;
    std::string told;  // by the child, on its standard output
};

// The child tells "ready" before the timeout passes, however slow the machine.
timed_out run_with(const client& c, const std::string& script, int signal,
                   std::chrono::nanoseconds grace) {
    for (auto limit = 100ms; limit < 100s; limit *= 4) {
        int ends[2] = {-1, -1};
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        const unique_fd reader(ends[0]);
        unique_fd writer(ends[1]);
        spawn_options o{.program = "/bin/sh", .args = {"-c", script}};
        o.out = stdio::descriptor{writer.get()};
        o.timeout_signal = signal;
        o.timeout_grace = grace;
        const auto r = c.try_run(o, {}, limit);
        REQUIRE(r.has_error());
        writer.reset();
        timed_out t{r.error(), {}};
        char bytes[100];
        for (ssize_t n = 0; (n = ::read(reader.get(), bytes, sizeof bytes)) > 0;)
            t.told.append(bytes, static_cast<std::size_t>(n));
        if (t.told.starts_with("ready")) return t;
    }
    FAIL("the child was never ready");
    return {};
}

}  // namespace

TEST_CASE("a run whose timeout passes ends its child with the signal that was chosen") {
    const client c = launch();
    const timed_out t = run_with(
        c, "trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.02; done", SIGTERM, 1h);
    CHECK(t.why.step == step::wait);
    CHECK(t.why.error_number == ETIMEDOUT);
    CHECK(t.told == "ready\nbye\n");
}

TEST_CASE("one that does not heed it is killed after its grace, and one that is stopped sees it") {
    const client c = launch();
    CHECK(
        run_with(c, "trap '' TERM; echo ready; while :; do sleep 0.02; done", SIGTERM, 50ms).told ==
        "ready\n");
    CHECK(run_with(c, "trap 'echo bye; exit' TERM; echo ready; kill -STOP $$", SIGTERM, 1h).told ==
          "ready\nbye\n");
    // Without a choice it is killed at once.
    CHECK(run_with(c, "trap 'echo bye' TERM; echo ready; while :; do sleep 0.02; done", SIGKILL, 1h)
              .told == "ready\n");
}
