#include "forkserver/daemon/metrics.hpp"

#include <sys/wait.h>

#include <algorithm>

namespace cleanfork::daemon {

void histogram::add(std::uint64_t ns) noexcept {
    const auto bound = std::lower_bound(k_bounds.begin(), k_bounds.end(), ns);
    ++counts_[static_cast<std::size_t>(bound - k_bounds.begin())];
    sum_ns_ += ns;
}

void histogram::to_wire(v1::Histogram& out) const {
    out.mutable_counts()->Assign(counts_.begin(), counts_.end());
    out.set_sum_ns(sum_ns_);
}

void metrics::count_failure(step s) noexcept {
    ++failures_[std::min<std::size_t>(static_cast<std::size_t>(s), k_steps - 1)];
}

void metrics::count_exit(int wait_status) noexcept {
    if (WIFSIGNALED(wait_status))
        ++signalled;
    else
        ++(WEXITSTATUS(wait_status) == 0 ? exited_zero : exited_other);
}

void metrics::to_wire(v1::Metrics& out) const {
    out.mutable_bounds_ns()->Assign(histogram::k_bounds.begin(), histogram::k_bounds.end());
    exec.to_wire(*out.mutable_exec());
    call.to_wire(*out.mutable_call());
    warm_call.to_wire(*out.mutable_warm_call());
    queued.to_wire(*out.mutable_queued());
    turns.to_wire(*out.mutable_turns());
    for (std::size_t s = 0; s < k_steps; ++s) {
        if (failures_[s] == 0) continue;
        v1::StepFailures& f = *out.add_failures();
        f.set_step(static_cast<std::uint32_t>(s));
        f.set_count(failures_[s]);
    }
    out.set_leased_calls(leased_calls);
    out.set_exited_zero(exited_zero);
    out.set_exited_other(exited_other);
    out.set_signalled(signalled);
    out.set_unknown(unknown);
}

}  // namespace cleanfork::daemon
