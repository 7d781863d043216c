#include <cleanfork/step.hpp>

namespace cleanfork {

std::string_view to_string(step s) noexcept {
    switch (s) {
        case step::none: return "none";
        case step::launch: return "launch";
        case step::connect: return "connect";
        case step::hello: return "hello";
        case step::protocol: return "protocol";
        case step::request: return "request";
        case step::quota: return "quota";
        case step::queue: return "queue";
        case step::prepare: return "prepare";
        case step::shutdown: return "shutdown";
        case step::identity: return "identity";
        case step::clone: return "clone";
        case step::cgroup: return "cgroup";
        case step::close_descriptors: return "close_descriptors";
        case step::session: return "session";
        case step::process_group: return "process_group";
        case step::controlling_terminal: return "controlling_terminal";
        case step::oom_score_adj: return "oom_score_adj";
        case step::nice: return "nice";
        case step::scheduler: return "scheduler";
        case step::affinity: return "affinity";
        case step::rlimit: return "rlimit";
        case step::descriptors: return "descriptors";
        case step::groups: return "groups";
        case step::gid: return "gid";
        case step::uid: return "uid";
        case step::capabilities: return "capabilities";
        case step::no_new_privs: return "no_new_privs";
        case step::chdir: return "chdir";
        case step::parent_death_signal: return "parent_death_signal";
        case step::signal_mask: return "signal_mask";
        case step::exec: return "exec";
        case step::signal: return "signal";
        case step::wait: return "wait";
        case step::template_start: return "template_start";
        case step::clean: return "clean";
        case step::fork: return "fork";
        case step::child_start: return "child_start";
        case step::entry: return "entry";
        case step::template_name: return "template_name";
        case step::audit: return "audit";
    }
    return "unknown";
}

}  // namespace cleanfork
