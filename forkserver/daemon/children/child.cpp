#include "forkserver/daemon/children/child.hpp"

#include <sys/wait.h>

namespace cleanfork::daemon {

signal_target target_of(v1::SignalTarget t) noexcept {
    return t == v1::SIGNAL_TARGET_GROUP    ? signal_target::group
           : t == v1::SIGNAL_TARGET_CGROUP ? signal_target::cgroup
                                           : signal_target::process;
}

void to_wire(const child& c, v1::Exit& out) {
    out.set_child(c.id.value());
    if (!c.exit) return;
    const int status = c.exit->wait_status;
    if (!c.exit->known)
        out.set_unknown("its template ended before it could tell");
    else if (WIFSIGNALED(status)) {
        out.set_signal(WTERMSIG(status));
        out.set_core_dumped(WCOREDUMP(status));
    } else {
        out.set_code(static_cast<std::uint32_t>(WEXITSTATUS(status)));
    }
    *out.mutable_usage() = c.exit->usage;
    if (!c.exit->error.empty()) out.set_error(c.exit->error);
    out.set_wall_ns(c.exit->wall_ns);
}

}  // namespace cleanfork::daemon
