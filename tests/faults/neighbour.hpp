// Another client of the same forkserver, which no fault is for: it has a child of its own all the
// time, and looks whether the forkserver is as it was.
#pragma once

#include <cstdint>
#include <string>

#include "tests/faults/paths.hpp"

namespace cleanfork::faults {

struct neighbours_answer {
    bool is_well;
    char text[300];  // what is not
    std::uint64_t descriptors;
    long allocations;  // that the forkserver holds now
};

// In a process of its own: answers each byte that comes through the socket, until it is closed.
[[noreturn]] void be_neighbour(const surroundings& s, int socket);

}  // namespace cleanfork::faults
