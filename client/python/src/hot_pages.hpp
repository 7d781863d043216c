// The pages that every child of a Python template writes or reads: reference counts
// lie all over the heap, and a child spends most of its start on the faults that take
// them. One that is forked ahead of its request takes them while nobody waits.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace cleanfork::python {

class hot_pages {
public:
    // Forks a child that calls `rehearsal` and tells which pages that took. A child
    // that fails, or takes long, teaches nothing. For one thread, before the loop
    // that reaps children; the caller holds the GIL.
    void learn(const std::function<void()>& rehearsal);
    // In a child: has these pages. Never fails; what cannot be had is left to faults.
    void take() const noexcept;

private:
    struct run {
        std::uintptr_t at;
        std::uint32_t pages;
        std::uint32_t written;  // or read
    };
    static std::vector<run> of_this_process();

    std::vector<run> runs_;
};

}  // namespace cleanfork::python
