// When a template that failed is started again.
#include "forkserver/daemon/templates/backoff.hpp"

#include <doctest/doctest.h>

using namespace cleanfork::daemon;
using std::chrono::milliseconds;

namespace {

constexpr backoff::clock::time_point k_now{std::chrono::hours(1)};

milliseconds next_pause(backoff& b) {
    b.schedule(k_now);
    return b.left(k_now);
}

}  // namespace

TEST_CASE("each failure doubles the pause, up to 30 seconds") {
    backoff b;
    for (const int ms : {100, 200, 400, 800, 1600, 3200, 6400, 12'800, 25'600, 30'000, 30'000})
        CHECK(next_pause(b) == milliseconds(ms));
    b.forgive();
    CHECK(next_pause(b) == milliseconds(100));
}

TEST_CASE("a start is due when its pause is over, and not after it was cancelled") {
    backoff b;
    CHECK_FALSE(b.is_pending());
    CHECK_FALSE(b.is_due(k_now));
    b.schedule(k_now);
    CHECK(b.is_pending());
    CHECK_FALSE(b.is_due(k_now + milliseconds(99)));
    CHECK(b.is_due(k_now + milliseconds(100)));
    // One that is overdue is still to come.
    CHECK(b.left(k_now + milliseconds(500)) == milliseconds(1));
    b.cancel();
    CHECK_FALSE(b.is_pending());
    CHECK_FALSE(b.is_due(k_now + milliseconds(500)));
}
