// What the process is to have and to be, besides its program.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "forkserver/spawn/planner.hpp"
#include "ipc/base/cgroups.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::spawn {

namespace {

constexpr int k_first_listen_target = 3;  // SD_LISTEN_FDS_START

bool is_frozen(int cgroup) noexcept {
    const unique_fd events(::openat(cgroup, "cgroup.events", O_RDONLY | O_CLOEXEC));
    if (!events) return false;  // the root cgroup, or none at all
    char text[256];
    const ssize_t n = ipc::retry([&] { return ::pread(events.get(), text, sizeof text, 0); });
    return n > 0 && std::string_view(text, static_cast<std::size_t>(n)).find("frozen 1") !=
                        std::string_view::npos;
}

}  // namespace

result<int> planner::descriptor(std::uint32_t reference, v1::DescriptorPurpose purpose,
                                const char* what) {
    if (reference == 0 || reference > out_.descriptors_->size())
        return invalid(what, "it refers to a descriptor that did not come with the request");
    if (purposes_.at(reference - 1) != purpose)
        return invalid(what, "the descriptor was sent for another purpose");
    return out_.descriptors_->at(reference - 1).get();
}

result<void> planner::directory() {
    if (request_.has_cwd_path()) {
        if (auto r = check_string("cwd", request_.cwd_path(), ipc::k_max_path - 1); !r) return r;
        plan_.cwd_path = request_.cwd_path().c_str();
        // A relative path starts from the session's directory.
        if (request_.cwd_path().starts_with('/')) return {};
        plan_.cwd_fd = out_.base_->cwd.get();
        plan_.cwd_at_once = out_.base_->cwd_is_local;
        return {};
    }
    if (request_.has_cwd_descriptor()) {
        auto fd = descriptor(request_.cwd_descriptor(), v1::DESCRIPTOR_PURPOSE_CWD, "cwd");
        if (!fd) return fd.error();
        plan_.cwd_fd = *fd;
        return {};
    }
    plan_.cwd_fd = out_.base_->cwd.get();
    plan_.cwd_at_once = out_.base_->cwd_is_local;
    plan_.cwd_is_callers = true;
    return {};
}

result<void> planner::map() {
    auto& moves = out_.moves_;
    std::set<int> targets;
    const auto add = [&](std::uint32_t reference, int target) -> result<void> {
        if (target < 0 || target > ipc::k_max_target)
            return invalid("descriptor " + std::to_string(target), "a target is from 0 to 65535");
        if (!targets.insert(target).second)
            return invalid("descriptor " + std::to_string(target),
                           "two descriptors have this target");
        auto fd = descriptor(reference, v1::DESCRIPTOR_PURPOSE_CHILD, "descriptors");
        if (!fd) return fd.error();
        moves.push_back({*fd, target, false});
        return {};
    };
    for (const auto& m : request_.descriptors())
        if (auto r = add(m.source_descriptor(), m.target()); !r) return r;
    int listen_target = k_first_listen_target;
    for (const auto& l : request_.listen_descriptors())
        if (auto r = add(l.source_descriptor(), listen_target++); !r) return r;
    for (int target = 0; target <= 2; ++target)
        if (targets.insert(target).second) moves.push_back({self_.null_fd, target, false});
    for (descriptor_move& m : moves)
        m.collides = m.source != m.target && targets.contains(m.source);
    plan_.moves = moves.data();
    plan_.move_count = moves.size();
    plan_.highest_target = *targets.rbegin();
    return {};
}

result<void> planner::groups_and_terminal() {
    switch (request_.process_group()) {
        case v1::PROCESS_GROUP_UNSPECIFIED:
        case v1::PROCESS_GROUP_NEW: break;
        case v1::PROCESS_GROUP_SESSION: plan_.new_session = true; break;
        case v1::PROCESS_GROUP_JOIN:
            if (request_.process_group_id() <= 0)
                return invalid("process_group_id", "it is above 0");
            plan_.process_group = request_.process_group_id();
            break;
        default: return invalid("process_group", "unknown kind");
    }
    if (!request_.has_controlling_terminal()) return {};
    if (!plan_.new_session)
        return invalid("controlling_terminal", "it needs a new session for the child");
    const int target = request_.controlling_terminal();
    const bool mapped = std::any_of(out_.moves_.begin(), out_.moves_.end(),
                                    [&](const auto& m) { return m.target == target; });
    if (!mapped)
        return invalid("controlling_terminal", "no descriptor has this target in the child");
    plan_.controlling_terminal = target;
    return {};
}

result<void> planner::scheduling() {
    if (request_.has_umask()) {
        if (request_.umask() > 0777) return invalid("umask", "it is at most 0777");
        plan_.umask = request_.umask();
        plan_.set_umask = plan_.umask != 022;  // what the forkserver itself has
    }
    if (request_.has_nice()) {
        if (request_.nice() < -20 || request_.nice() > 19)
            return invalid("nice", "it is from -20 to 19");
        plan_.set_nice = true;
        plan_.nice = request_.nice();
    }
    if (request_.has_oom_score_adj()) {
        if (request_.oom_score_adj() < -1000 || request_.oom_score_adj() > 1000)
            return invalid("oom_score_adj", "it is from -1000 to 1000");
        plan_.set_oom_score_adj = true;
        plan_.oom_score_adj = request_.oom_score_adj();
    }
    if (request_.has_scheduling()) {
        const auto& s = request_.scheduling();
        constexpr std::uint32_t k_most = SCHED_IDLE + 1;
        if (s.policy() == 0 || s.policy() > k_most) return invalid("scheduling", "unknown policy");
        if (s.priority() < 0 || s.priority() > 99)
            return invalid("scheduling", "a priority is from 0 to 99");
        plan_.set_scheduler = true;
        plan_.scheduler_policy = static_cast<int>(s.policy() - 1);
        plan_.scheduler_priority = s.priority();
    }
    return cpus();
}

result<void> planner::cpus() {
    if (request_.cpus_size() == 0) return {};
    constexpr std::size_t k_bits = sizeof(cpu_set_t) * 8;
    out_.cpus_.resize(ipc::k_max_cpus / k_bits);
    std::size_t most = 0;
    for (const std::uint32_t cpu : request_.cpus()) {
        if (cpu >= ipc::k_max_cpus) return invalid("cpus", "a processor's number is below 8192");
        CPU_SET_S(cpu, out_.cpus_.size() * sizeof(cpu_set_t), out_.cpus_.data());
        most = std::max<std::size_t>(most, cpu);
    }
    plan_.cpus = out_.cpus_.data();
    plan_.cpus_size = (most / k_bits + 1) * sizeof(cpu_set_t);
    return {};
}

result<void> planner::limits() {
    bool descriptors_limited = false;
    std::set<int> seen;
    for (const auto& l : request_.rlimits()) {
        if (l.resource() == 0 || l.resource() > RLIM_NLIMITS)
            return invalid("rlimits", "unknown resource");
        if (l.soft() > l.hard())
            return invalid("rlimits", "a soft limit is not above its hard one");
        const int resource = static_cast<int>(l.resource() - 1);
        if (!seen.insert(resource).second) return invalid("rlimits", "a resource is limited twice");
        descriptors_limited |= resource == RLIMIT_NOFILE;
        out_.limits_.push_back({resource, {l.soft(), l.hard()}});
    }
    for (const resource_limit& l : out_.caller_limits_)
        descriptors_limited |= l.resource == RLIMIT_NOFILE;
    if (self_.restore_descriptor_limit && !descriptors_limited)
        out_.limits_.push_back({RLIMIT_NOFILE, self_.descriptor_limit});
    if (request_.tree_marker() != 0) {
        if (!seen.insert(RLIMIT_LOCKS).second)
            return invalid("rlimits", "with the target tree \"locks\" is what marks its processes");
        out_.limits_.push_back({RLIMIT_LOCKS, {request_.tree_marker(), request_.tree_marker()}});
    }
    plan_.limits = out_.limits_.data();
    plan_.limit_count = out_.limits_.size();
    return {};
}

result<void> planner::credentials() {
    plan_.set_uid = request_.has_uid();
    plan_.uid = {request_.uid(), request_.uid(), request_.uid()};
    plan_.set_gid = request_.has_gid();
    plan_.gid = {request_.gid(), request_.gid(), request_.gid()};
    // -1 means "leave alone" to setresuid(2): it would not fail, and change nothing.
    if ((plan_.set_uid && request_.uid() == static_cast<uid_t>(-1)) ||
        (plan_.set_gid && request_.gid() == static_cast<gid_t>(-1)))
        return invalid("uid", "4294967295 is no user or group");
    if (request_.has_groups()) {
        const auto& g = request_.groups().gid();
        if (static_cast<std::size_t>(g.size()) > ipc::k_max_groups)
            return invalid("groups", "too many groups");
        out_.groups_.assign(g.begin(), g.end());
    }
    // Another user's child must not keep root's supplementary groups.
    const bool privileged =
        plan_.becomes_caller ? plan_.caller.uid.effective == 0 : self_.privileged;
    plan_.set_groups = request_.has_groups() || (plan_.set_uid && privileged);
    plan_.groups = out_.groups_.data();
    plan_.group_count = out_.groups_.size();
    plan_.no_new_privs = request_.no_new_privs();
    if (const int s = request_.parent_death_signal(); s != 0) {
        if (!is_signal(s)) return invalid("parent_death_signal", "no such signal");
        plan_.parent_death_signal = s;
        plan_.parent = self_.pid;
    }
    return {};
}

result<void> planner::ignored_signals() {
    for (const int s : request_.ignored_signals()) {
        if (!is_signal(s) || s == SIGKILL || s == SIGSTOP)
            return invalid("ignored_signals", "no signal that can be ignored");
        plan_.ignored_signals |= std::uint64_t{1} << (s - 1);
    }
    return {};
}

result<void> planner::cgroup() {
    if (request_.has_cgroup_path()) {
        const std::string& path = request_.cgroup_path();
        if (auto r = check_string("cgroup", path, ipc::k_max_path - 1); !r) return r;
        if (!path.starts_with('/')) return invalid("cgroup", "the path is absolute");
        out_.cgroup_ = ipc::open_cgroup(path);
        if (!out_.cgroup_) return ipc::fail(step::cgroup, errno, path);
        plan_.cgroup_fd = out_.cgroup_.get();
    } else if (request_.has_cgroup_descriptor()) {
        auto fd = descriptor(request_.cgroup_descriptor(), v1::DESCRIPTOR_PURPOSE_CGROUP, "cgroup");
        if (!fd) return fd.error();
        if (!ipc::is_cgroup(*fd))
            return ipc::fail(step::cgroup, EBADF, out_.object_of(step::cgroup, -1),
                             "it is no directory of cgroup v2");
        plan_.cgroup_fd = *fd;
    }
    // A child that is frozen before its exec would keep the forkserver, which
    // waits for that, from everybody.
    if (plan_.cgroup_fd >= 0 && is_frozen(plan_.cgroup_fd))
        return ipc::fail(step::cgroup, EBUSY, out_.object_of(step::cgroup, -1),
                         "the cgroup is frozen: no process can begin there");
    // Another caller's child joins it with the rights of that caller.
    plan_.join_cgroup = plan_.cgroup_fd >= 0 && (!self_.clone_into_cgroup || plan_.becomes_caller);
    return {};
}

result<void> planner::life() {
    const auto& l = request_.lifetime();
    if (l.signal() != 0 && !is_signal(l.signal())) return invalid("lifetime", "no such signal");
    if (l.has_grace_ms() && std::chrono::milliseconds(l.grace_ms()) > ipc::k_max_grace)
        return invalid("lifetime", "the grace is at most a day");
    if (l.target() > v1::SIGNAL_TARGET_TREE || l.target() < 0)
        return invalid("lifetime", "unknown target");
    if (l.target() == v1::SIGNAL_TARGET_GROUP && request_.process_group() == v1::PROCESS_GROUP_JOIN)
        return invalid("lifetime",
                       "the target group needs a process group or session of the child's own");
    if (l.target() == v1::SIGNAL_TARGET_CGROUP && plan_.cgroup_fd < 0)
        return invalid("lifetime", "the target cgroup needs a cgroup");
    return {};
}

// Above every descriptor the child still needs. What the child may enter depends on its rights.
void planner::bound() {
    const bool keeps_rights = !plan_.becomes_caller && !plan_.set_groups && !plan_.set_gid &&
                              !plan_.set_uid && !plan_.set_permitted && !plan_.set_bounding;
    plan_.cwd_at_once = plan_.cwd_at_once && plan_.cwd_fd >= 0 && keeps_rights;
    int most =
        std::max({2, plan_.cwd_fd, plan_.program_fd, plan_.join_cgroup ? plan_.cgroup_fd : 0});
    for (const descriptor_move& m : out_.moves_) most = std::max(most, m.source);
    plan_.close_from = most + 1;
}

}  // namespace cleanfork::spawn
