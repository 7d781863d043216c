// What the caller is, when that is something else than the forkserver; and the capabilities that
// were asked for.
#include <algorithm>
#include <cstring>
#include <set>

#include "forkserver/spawn/planner.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/identity_message.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::spawn {

namespace {

bool is_id(std::uint32_t id) noexcept { return id != static_cast<std::uint32_t>(-1); }

bool are_ids(const ipc::id_triple& ids) noexcept {
    return is_id(ids.real) && is_id(ids.effective) && is_id(ids.saved);
}

}  // namespace

result<void> planner::caller() {
    if (request_.as_forkserver() || !request_.has_caller()) return {};
    if (request_.caller().has_conduct())
        if (auto r = caller_conduct(); !r) return r;
    return request_.caller().has_rights() ? caller_rights() : result<void>();
}

// What the request asks for itself need not be as the caller has it.
result<void> planner::caller_conduct() {
    const v1::Conduct& c = request_.caller().conduct();
    conduct_plan& p = plan_.caller_conduct;
    p.set_nice = c.has_nice() && !request_.has_nice();
    p.nice = c.nice();
    p.set_oom_score_adj = c.has_oom_score_adj() && !request_.has_oom_score_adj();
    p.oom_score_adj = c.oom_score_adj();
    p.set_scheduler = c.has_scheduling() && !request_.has_scheduling();
    p.scheduler_policy = static_cast<int>(c.scheduling().policy()) - 1;
    p.scheduler_priority = c.scheduling().priority();
    if (p.set_scheduler && p.scheduler_policy < 0) return invalid("caller", "unknown policy");
    if (!c.cpus().empty() && request_.cpus_size() == 0) {
        if (c.cpus().size() > ipc::k_max_cpus / 8) return invalid("caller", "too many processors");
        out_.caller_cpus_.resize((c.cpus().size() + sizeof(cpu_set_t) - 1) / sizeof(cpu_set_t));
        std::memcpy(out_.caller_cpus_.data(), c.cpus().data(), c.cpus().size());
        p.cpus = out_.caller_cpus_.data();
        p.cpus_size = out_.caller_cpus_.size() * sizeof(cpu_set_t);
    }
    std::set<std::uint32_t> asked;
    for (const v1::Rlimit& l : request_.rlimits()) asked.insert(l.resource());
    for (const v1::Rlimit& l : c.rlimits()) {
        if (l.resource() == 0 || l.resource() > RLIM_NLIMITS || l.soft() > l.hard())
            return invalid("caller", "no resource limit");
        if (!asked.insert(l.resource()).second) continue;
        out_.caller_limits_.push_back({static_cast<int>(l.resource() - 1), {l.soft(), l.hard()}});
    }
    p.limits = out_.caller_limits_.data();
    p.limit_count = out_.caller_limits_.size();
    return {};
}

result<void> planner::caller_rights() {
    const ipc::rights r = ipc::from_wire(request_.caller().rights());
    if (!are_ids(r.user) || !are_ids(r.group))
        return invalid("caller", "4294967295 is no user or group");
    if (r.groups.size() > ipc::k_max_groups) return invalid("caller", "too many groups");
    out_.caller_groups_ = r.groups;
    plan_.becomes_caller = true;
    plan_.caller = {.set_groups = true,
                    .groups = out_.caller_groups_.data(),
                    .group_count = out_.caller_groups_.size(),
                    .set_gid = true,
                    .gid = r.group,
                    .set_uid = true,
                    .uid = r.user,
                    .set_bounding = true,
                    .bounding = r.capabilities.bounding,
                    .set_inheritable = true,
                    .inheritable = r.capabilities.inheritable,
                    .set_ambient = true,
                    .ambient = r.capabilities.ambient,
                    .set_permitted = true,
                    .permitted = r.capabilities.permitted,
                    .effective = r.capabilities.effective,
                    .set_securebits = true,
                    .securebits = r.securebits,
                    .no_new_privs = r.no_new_privs};
    return {};
}

// What is ambient must be inheritable as well (capabilities(7)), so it becomes that.
result<void> planner::capabilities() {
    plan_.set_bounding = request_.has_bounding_capabilities();
    plan_.bounding = request_.bounding_capabilities();
    plan_.set_inheritable = request_.has_inheritable_capabilities();
    plan_.inheritable = request_.inheritable_capabilities();
    plan_.set_ambient = request_.has_ambient_capabilities();
    plan_.ambient = request_.ambient_capabilities();
    if (plan_.set_inheritable && (plan_.ambient & ~plan_.inheritable) != 0)
        return invalid("ambient_caps", "an ambient capability is inheritable as well");
    return {};
}

}  // namespace cleanfork::spawn
