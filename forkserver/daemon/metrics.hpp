// What the forkserver counts of its own work since its start. Adding to it is arithmetic alone: no
// system call, no allocation, nothing that throws.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <array>
#include <cleanfork/step.hpp>
#include <cstddef>
#include <cstdint>

namespace cleanfork::daemon {

// How many durations were at most each bound, and their sum.
class histogram {
public:
    // Nanoseconds: 10 us to 10 s, by 1, 2, 5. Also those of /metrics, where a change of them is a
    // change for whoever has stored the old ones.
    static constexpr std::array<std::uint64_t, 19> k_bounds{
        10'000,        20'000,        50'000,        100'000,       200'000,
        500'000,       1'000'000,     2'000'000,     5'000'000,     10'000'000,
        20'000'000,    50'000'000,    100'000'000,   200'000'000,   500'000'000,
        1'000'000'000, 2'000'000'000, 5'000'000'000, 10'000'000'000};

    void add(std::uint64_t ns) noexcept;
    void to_wire(v1::Histogram& out) const;

private:
    std::array<std::uint64_t, k_bounds.size() + 1> counts_{};  // the last: longer than all bounds
    std::uint64_t sum_ns_ = 0;
};

struct metrics {
    // From the arrival of a request to the answer that its child has begun.
    histogram exec, call, warm_call;
    histogram queued;                // until its turn came
    histogram turns;                 // of the loop
    std::uint64_t leased_calls = 0;  // which go past the forkserver
    std::uint64_t exited_zero = 0, exited_other = 0, signalled = 0, unknown = 0;

    void count_failure(step s) noexcept;
    // By the status of waitpid(2).
    void count_exit(int wait_status) noexcept;
    void to_wire(v1::Metrics& out) const;

private:
    static constexpr std::size_t k_steps = 128;  // numbers of steps are below
    std::array<std::uint64_t, k_steps> failures_{};
};

}  // namespace cleanfork::daemon
