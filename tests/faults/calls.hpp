// What each system call may plausibly fail with.
#pragma once

#include <array>
#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cleanfork::faults {

// An allocation of C++, which is no system call but fails as one.
inline constexpr int k_allocation = -2;

// By its number: as <asm/unistd.h> names it; else the number.
std::string name_of_call(int number);
// -1 when there is none of that name in the table.
int call_of_name(std::string_view name);
// As of errno(3): "EMFILE".
std::string name_of_errno(int error_number);
int errno_of_name(std::string_view name);

// In order; empty: it never fails, or its failure would be no failure of this call alone. Of some
// calls it depends on the arguments.
std::vector<int> errnos_of(int number, const std::array<std::uint64_t, 6>& args);

}  // namespace cleanfork::faults
