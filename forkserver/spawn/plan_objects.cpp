// What the steps of a plan are about, in the words of an error.
#include <string>

#include "forkserver/spawn/plan.hpp"

namespace cleanfork::spawn {

namespace {

std::string words_of(const ipc::id_triple& i) {
    std::string text = std::to_string(i.effective);
    if (i.real != i.effective) text += " (real " + std::to_string(i.real) + ")";
    return text;
}

// What of the caller the child could not become, at the step that failed.
std::string part_of_caller(const plan& p, step s) {
    switch (s) {
        case step::uid: return "user " + words_of(p.caller.uid);
        case step::gid: return "group " + words_of(p.caller.gid);
        case step::groups: return "supplementary groups";
        case step::nice: return "nice " + std::to_string(p.caller_conduct.nice);
        case step::scheduler: return "scheduling policy";
        case step::affinity: return "processors";
        case step::rlimit: return "resource limits";
        case step::oom_score_adj:
            return "oom_score_adj " + std::to_string(p.caller_conduct.oom_score_adj);
        default: return std::string(to_string(s));
    }
}

}  // namespace

std::string object_of(const plan& p, step s, int index, const plan_names& names) {
    const auto at = static_cast<std::size_t>(index);
    switch (s) {
        case step::exec: return std::string(names.program);
        case step::chdir:
            return p.cwd_path != nullptr ? p.cwd_path : "descriptor of the working directory";
        case step::cgroup:
            return names.cgroup.empty() ? "descriptor of the cgroup" : std::string(names.cgroup);
        case step::descriptors:
            return index >= 0 && at < p.move_count
                       ? "descriptor " + std::to_string(p.moves[at].target)
                       : "";
        case step::rlimit:
            return index >= 0 && at < p.limit_count
                       ? "resource " + std::to_string(p.limits[at].resource)
                       : "";
        case step::process_group:
            return p.process_group != 0 ? std::to_string(p.process_group) : "";
        case step::controlling_terminal:
            return "descriptor " + std::to_string(p.controlling_terminal);
        case step::nice: return std::to_string(p.nice);
        case step::oom_score_adj: return std::to_string(p.oom_score_adj);
        case step::uid: return std::to_string(p.uid.effective);
        case step::gid: return std::to_string(p.gid.effective);
        case step::identity: return part_of_caller(p, static_cast<step>(index));
        default: return {};
    }
}

}  // namespace cleanfork::spawn
