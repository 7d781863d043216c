// Two thousand children alive at once; ten thousand are soak_scale.cpp's.
#include <doctest/doctest.h>

#include "tests/integration/soak/scale_support.hpp"

using namespace cleanfork::testing;

TEST_CASE("2,000 children alive: spawns are no slower, memory is bounded, every status arrives") {
    // soak_scale.cpp asks for 0.8; this one shares its machine with other tests.
    const scale_figures f = run_at_scale(2'000);
    CHECK(f.statuses == 2'000);
    if (k_sanitized) {
        MESSAGE("rates and memory are not judged: they are AddressSanitizer's");
        return;
    }
    CHECK(f.rate_many >= 0.6 * f.rate_few);
    CHECK(f.rss_kib < 24 * 1024);
}

TEST_CASE("the end of a session with 2,000 children is a matter of many turns") {
    scale_figures f;
    end_of_session(2'000, f);
    CHECK(f.neighbour_s < f.end_s / 2);
    CHECK(f.longest_turn_s > 0);
}
