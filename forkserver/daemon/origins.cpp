#include "forkserver/daemon/origins.hpp"

#include <cerrno>

#include "forkserver/spawn/trace_parent.hpp"
#include "ipc/base/cgroups.hpp"
#include "ipc/base/fd.hpp"

namespace cleanfork::daemon {

namespace {

child_lifetime lifetime_of(const v1::SpawnRequest& r) {
    const v1::Lifetime& l = r.lifetime();
    child_lifetime out;
    out.keep = l.keep();
    if (l.signal() != 0) out.signal = l.signal();
    if (l.has_grace_ms()) out.grace = std::chrono::milliseconds(l.grace_ms());
    out.target = target_of(l.target());
    return out;
}

}  // namespace

child_origin origin_of(const queued_spawn& q) {
    child_origin o;
    o.session = q.session;
    o.lifetime = lifetime_of(*q.request);
    o.leads_group = q.request->process_group() != v1::PROCESS_GROUP_JOIN;
    o.command = spawn::command_of(*q.request);
    o.template_name = q.request->call().template_name();
    o.trace_parent = spawn::trace_parent_of(*q.request, *q.base);
    return o;
}

unique_fd cgroup_of(const queued_spawn& q) {
    const v1::SpawnRequest& r = *q.request;
    if (r.has_cgroup_path()) return ipc::open_cgroup(r.cgroup_path());
    if (!r.has_cgroup_descriptor()) return {};
    const int fd = q.descriptors->at(r.cgroup_descriptor() - 1).get();
    if (ipc::is_cgroup(fd)) return ipc::dup_fd(fd);
    errno = EBADF;
    return {};
}

}  // namespace cleanfork::daemon
