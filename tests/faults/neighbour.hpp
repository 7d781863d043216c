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
};

// In a process of its own: answers each number of descriptors that comes through the socket, those
// that the forkserver is to have or 0, until that is closed.
[[noreturn]] void be_neighbour(const surroundings& s, int socket);

}  // namespace cleanfork::faults
