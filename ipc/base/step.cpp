#include <cerrno>
#include <cleanfork/failure.hpp>
#include <cleanfork/step.hpp>
#include <cstring>

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

namespace {

// What a person can do about it, where that is not plain from the errno's text.
const char* remedy(const failure& f) {
    switch (f.step) {
        case step::exec:
            if (f.error_number == ENOENT && f.object.starts_with("descriptor "))
                return "a script cannot be run by descriptor: give its path";
            if (f.error_number == ENOENT)
                return f.object.find('/') == std::string::npos
                           ? "no such program in PATH of the child's environment"
                           : "no such program, or its interpreter (#! line, ELF loader) is missing";
            if (f.error_number == EACCES)
                return "not executable for this user: check its mode and mount options";
            if (f.error_number == ENOEXEC) return "not a program: a script needs a #! line";
            if (f.error_number == E2BIG) return "arguments and environment are too large together";
            if (f.error_number == ETXTBSY) return "the program is open for writing";
            break;
        case step::chdir:
            if (f.error_number == ENOENT) return "no such working directory";
            if (f.error_number == ENOTDIR) return "the working directory is not a directory";
            break;
        case step::clone:
            if (f.error_number == EAGAIN)
                return "too many processes: see ulimit -u, pids.max and kernel.pid_max";
            if (f.error_number == ENOMEM) return "the system is out of memory";
            break;
        case step::cgroup:
            if (f.error_number == ENOENT)
                return "no such cgroup: create it first, below a cgroup v2 mount";
            if (f.error_number == EBADF) return "not a directory of cgroup v2";
            if (f.error_number == EACCES || f.error_number == EPERM)
                return "the cgroup must be delegated to this user";
            if (f.error_number == EBUSY)
                return "a cgroup with controllers enabled for its children holds no process itself";
            break;
        case step::nice:
        case step::scheduler:
        case step::oom_score_adj:
        case step::rlimit:
            if (f.error_number == EPERM || f.error_number == EACCES)
                return "raising this needs privileges the forkserver lacks";
            break;
        case step::groups:
        case step::gid:
        case step::uid:
            if (f.error_number == EPERM)
                return "changing users needs a forkserver that runs as root";
            break;
        case step::process_group:
            if (f.error_number == EPERM || f.error_number == ESRCH)
                return "no such process group in the forkserver's session";
            break;
        case step::controlling_terminal:
            if (f.error_number == ENOTTY) return "that descriptor is no terminal";
            if (f.error_number == EPERM) return "the terminal belongs to another session";
            break;
        case step::affinity:
            if (f.error_number == EINVAL)
                return "none of these processors is usable here: see /proc/self/status, "
                       "Cpus_allowed_list";
            break;
        case step::prepare:
            if (f.error_number == EMFILE)
                return "the forkserver is out of descriptors: raise its RLIMIT_NOFILE";
            break;
        case step::connect:
            if (f.error_number == ENOENT || f.error_number == ECONNREFUSED)
                return "no forkserver is running there: start one with `cleanfork serve`";
            break;
        case step::signal:
        case step::wait:
            if (f.error_number == ESRCH) return "no such child, or it has ended";
            break;
        default: break;
    }
    return nullptr;
}

}  // namespace

std::string failure::message() const {
    std::string text(to_string(step));
    if (!object.empty()) text += " \"" + object + "\"";
    if (error_number != 0) {
        text += ": ";
        text += ::strerrordesc_np(error_number) != nullptr
                    ? ::strerrordesc_np(error_number)
                    : "error " + std::to_string(error_number);
        if (const char* name = ::strerrorname_np(error_number))
            text += std::string(" (") + name + ")";
    }
    if (!detail.empty())
        text += (error_number != 0 ? "; " : ": ") + detail;
    else if (const char* hint = remedy(*this))
        text += std::string("; ") + hint;
    return text;
}

}  // namespace cleanfork
