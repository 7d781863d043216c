#include "forkserver/daemon/children/child.hpp"

#include <sys/wait.h>

#include <utility>

namespace cleanfork::daemon {

signal_target target_of(v1::SignalTarget t) noexcept {
    return t == v1::SIGNAL_TARGET_GROUP    ? signal_target::group
           : t == v1::SIGNAL_TARGET_CGROUP ? signal_target::cgroup
           : t == v1::SIGNAL_TARGET_TREE   ? signal_target::tree
                                           : signal_target::process;
}

child_restart::child_restart(const v1::SpawnRequest& r, std::shared_ptr<std::size_t> total,
                             std::size_t kept)
    : request(r), schedule(r.restart()), total_(std::move(total)), kept_(kept) {
    *total_ += kept_;
}

void child_restart::let_go() noexcept {
    *total_ -= std::exchange(kept_, 0);
    descriptors.reset();
    base.reset();
    request.Clear();
}

void to_wire(const child& c, v1::Exit& out) {
    out.set_child(c.id.value());
    if (c.exit) to_wire(c.id, *c.exit, out);
}

void to_wire(child_id id, const child_exit& e, v1::Exit& out) {
    out.set_child(id.value());
    const int status = e.wait_status;
    if (!e.known)
        out.set_unknown(e.error.empty() ? "its template ended before it could tell" : e.error);
    else if (WIFSIGNALED(status)) {
        out.set_signal(WTERMSIG(status));
        out.set_core_dumped(WCOREDUMP(status));
    } else {
        out.set_code(static_cast<std::uint32_t>(WEXITSTATUS(status)));
    }
    *out.mutable_usage() = e.usage;
    if (e.known && !e.error.empty()) out.set_error(e.error);
    out.set_wall_ns(e.wall_ns);
}

}  // namespace cleanfork::daemon
