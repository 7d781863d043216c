// Memory kept for the end of what has been begun.
//
// When an allocation fails (RLIMIT_AS, RLIMIT_DATA, strict overcommit) this is given back, and
// the allocation is tried again: so a turn of the loop is finished, its exits are told and its
// sessions ended. While the reserve is gone nothing new is begun. An allocation that is larger
// than the reserve fails by std::bad_alloc.
#pragma once

#include <cstddef>

namespace cleanfork::daemon {

class memory_reserve {
public:
    // More than the C library asks of the kernel at once. No page of it is touched.
    static constexpr std::size_t k_size = std::size_t{4} << 20;

    // The new handler of this process (std::set_new_handler) from now on. Again is harmless.
    static void keep() noexcept;
    // True when it is there; takes it anew when it was given back and memory is to be had again.
    static bool is_there() noexcept;
};

}  // namespace cleanfork::daemon
