// Combinations that have found a fault: the sample has them all.
#pragma once

#include <string_view>
#include <vector>

namespace cleanfork::faults {

// "spawn: client openat#1 EMFILE"
const std::vector<std::string_view>& all_found();
// About one of so many others is in the sample, the same each time.
inline constexpr unsigned k_others = 100;

}  // namespace cleanfork::faults
