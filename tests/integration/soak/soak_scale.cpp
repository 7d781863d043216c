// Ten thousand children alive at once on one daemon. ./dev soak
#include <doctest/doctest.h>

#include "tests/integration/soak/scale_support.hpp"

using namespace cleanfork::testing;

TEST_SUITE("soak") {
    TEST_CASE("10,000 children alive: spawns are no slower, RSS is bounded, every status arrives" *
              doctest::skip()) {
        const scale_figures f = run_at_scale(10'000);
        CHECK(f.statuses == 10'000);
        if (k_sanitized) return;
        CHECK(f.rate_many >= 0.8 * f.rate_few);
        CHECK(f.rss_kib < 64 * 1024);
    }

    TEST_CASE("the end of a session with 10,000 children keeps no neighbour waiting" *
              doctest::skip()) {
        scale_figures f;
        end_of_session(10'000, f);
        CHECK(f.neighbour_s < f.end_s / 4);
        CHECK(f.longest_turn_s < f.end_s / 4);
    }
}
