// How long a test waits for an event before it says that something hangs; patience.py says
// what such limits are, and measures the machine.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>

namespace cleanfork::test {

// How many times slower than usual this machine was found to be; at least 1.
inline double slowness() {
    const char* measured = std::getenv("CLEANFORK_TEST_SLOWNESS");
    return std::max(1.0, measured == nullptr ? 1.0 : std::atof(measured));
}

inline std::chrono::milliseconds scaled(std::chrono::milliseconds usual) {
    return std::chrono::milliseconds(
        static_cast<long>(static_cast<double>(usual.count()) * slowness()));
}

// Longer than any event of a test may take.
inline const std::chrono::milliseconds k_patience = scaled(std::chrono::seconds(60));
inline const int k_patience_ms = static_cast<int>(k_patience.count());

}  // namespace cleanfork::test
