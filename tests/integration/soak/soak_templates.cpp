// Templates for long: ./dev soak
#include <doctest/doctest.h>

#include "tests/integration/templates/template_load.hpp"

using namespace cleanfork::testing;

TEST_SUITE("soak") {
    TEST_CASE("a hundred thousand calls in a row leave forkserver and template flat" *
              doctest::skip()) {
        run_load({.calls = 100'000, .in_flight = 1, .warm = 0});
        run_load({.calls = 100'000, .in_flight = 1, .warm = 4});
    }

    TEST_CASE("ten thousand calls with 64 in flight leave forkserver and template flat" *
              doctest::skip()) {
        run_load({.calls = 10'000, .in_flight = 64, .warm = 0});
        run_load({.calls = 10'000, .in_flight = 64, .warm = 64});
    }
}
