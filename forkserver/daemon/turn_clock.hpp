// How long the turns of the loop take: one handler each.
#pragma once

#include <cstdint>
#include <utility>

#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

// Asio tells when it invokes a handler (turn_tracking.hpp), and its loop returns after each. Of a
// process with one loop and one thread, which is why there is one, and not one in each object.
class turn_clock {
public:
    static void begin() noexcept { began_ns = ipc::monotonic_ns(); }
    // Of the handler that has returned; 0 when there was none.
    [[nodiscard]] static std::uint64_t end_ns() noexcept {
        const std::uint64_t began = std::exchange(began_ns, 0);
        return began != 0 ? ipc::monotonic_ns() - began : 0;
    }

private:
    static inline std::uint64_t began_ns = 0;
};

}  // namespace cleanfork::daemon
