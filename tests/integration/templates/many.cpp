// The calls of ./dev soak in a shorter form.
#include <doctest/doctest.h>

#include "tests/integration/templates/template_load.hpp"

using namespace cleanfork::testing;

TEST_CASE("two thousand calls in a row are all told, and leave no trace") {
    run_load({.calls = 2000, .in_flight = 1, .warm = 0});
    run_load({.calls = 2000, .in_flight = 1, .warm = 4});
}

TEST_CASE("a thousand calls with 64 in flight are all told, and leave no trace") {
    run_load({.calls = 1000, .in_flight = 64, .warm = 0});
    run_load({.calls = 1000, .in_flight = 64, .warm = 16});
}
