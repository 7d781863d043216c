// Very many children at once on one daemon.
#pragma once

#include <string>
#include <vector>

#include "tests/integration/hostile/hostile_session.hpp"

namespace cleanfork::testing {

struct scale_figures {
    double rate_few = 0;   // spawns a second of a daemon with 10 children alive
    double rate_many = 0;  // of one with all of them alive, in turn with the other
    std::uint64_t rss_kib = 0;
    std::size_t statuses = 0;
    // Of the end of a session.
    double end_s = 0, neighbour_s = 0, longest_turn_s = 0;
};

// Spawns `count` children that stay, measures, kills all together and gathers their statuses.
// Fails the test where a status is missing or wrong, or the daemon does not come back to rest.
scale_figures run_at_scale(std::size_t count);

// Ends the session of so many children, and spawns in another meanwhile.
void end_of_session(std::size_t count, scale_figures& figures);

}  // namespace cleanfork::testing
