// Many calls, and what they leave: for the tests and, longer, for the soak.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/integration/templates/template_support.hpp"

namespace cleanfork::testing {

// What must be flat: of the forkserver and of the template "t".
struct footprint {
    std::uint64_t descriptors = 0, rss_kib = 0;
    std::size_t template_descriptors = 0;
    std::uint64_t template_rss_kib = 0;
};
// At rest: nothing runs, the pool is full.
footprint footprint_of(raw_session& s, int warm);

struct load {
    std::size_t calls = 0;
    std::size_t in_flight = 1;
    std::uint32_t warm = 0;
};
// Makes the calls, each with an exit code of its own, and requires that none is lost; then
// compares the footprint with that after the first tenth, and tells the figures.
void run_load(const load& l);

}  // namespace cleanfork::testing
