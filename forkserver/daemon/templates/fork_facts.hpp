// What the proof before a fork found, and the template is told with the order.
#pragma once

#include <cstdint>

namespace cleanfork::daemon {

struct fork_facts {
    // Of a template that ends its threads: it is to look for them in the midst of the fork.
    bool has_threads = false;
    // Bit n - 1: signal n has not its default action. All, when nobody has looked.
    std::uint64_t changed_signals = ~std::uint64_t{0};
};

}  // namespace cleanfork::daemon
