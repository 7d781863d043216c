#include <array>
#include <cerrno>
#include <cleanfork/failure.hpp>
#include <cstring>

namespace cleanfork {

namespace {

struct hint {
    cleanfork::step step;
    int error_number;
    const char* remedy;
};

constexpr const char* k_needs_privileges = "raising this needs privileges the forkserver lacks";
constexpr const char* k_needs_root = "changing users needs a forkserver that runs as root";
constexpr const char* k_not_delegated = "the cgroup must be delegated to this user";
constexpr const char* k_no_process_left =
    "too many processes: see ulimit -u, pids.max and kernel.pid_max";
constexpr const char* k_no_descriptor_left =
    "the forkserver is out of descriptors: raise its RLIMIT_NOFILE";
constexpr const char* k_no_such_group = "no such process group in the forkserver's session";
constexpr const char* k_nobody_serves =
    "no forkserver is running there: start one with `cleanfork serve`";
constexpr const char* k_other_identity =
    "this program is that and its forkserver is not, and its children would be what the "
    "forkserver is: start a forkserver from here (launch(), cleanfork.start() after stop()), or "
    "ask for children like the forkserver (identity)";
constexpr const char* k_no_such_child = "no such child, or it has ended";

// Where the errno's text does not make it plain what a person can do.
constexpr std::array k_hints = {
    hint{step::exec, EACCES, "not executable for this user: check its mode and mount options"},
    hint{step::exec, ENOEXEC, "not a program: a script needs a #! line"},
    hint{step::exec, E2BIG, "arguments and environment are too large together"},
    hint{step::exec, ETXTBSY, "the program is open for writing"},
    hint{step::chdir, ENOENT, "no such working directory"},
    hint{step::chdir, ENOTDIR, "the working directory is not a directory"},
    hint{step::chdir, EACCES, "this user may not enter the working directory"},
    hint{step::clone, EAGAIN, k_no_process_left},
    hint{step::clone, EINVAL,
         "there are no pidfds here: they need Linux 5.4, or gVisor of May 2026"},
    hint{step::clone, EMFILE, k_no_descriptor_left},
    hint{step::clone, ENOMEM, "the system is out of memory"},
    hint{step::cgroup, ENOENT, "no such cgroup: create it first, below a cgroup v2 mount"},
    hint{step::cgroup, EBADF, "not a directory of cgroup v2"},
    hint{step::cgroup, EACCES, k_not_delegated},
    hint{step::cgroup, EPERM, k_not_delegated},
    hint{step::cgroup, EBUSY,
         "a cgroup with controllers enabled for its children holds no process itself"},
    hint{step::nice, EPERM, k_needs_privileges},
    hint{step::nice, EACCES, k_needs_privileges},
    hint{step::scheduler, EPERM, k_needs_privileges},
    hint{step::scheduler, EACCES, k_needs_privileges},
    hint{step::oom_score_adj, EPERM, k_needs_privileges},
    hint{step::oom_score_adj, EACCES, k_needs_privileges},
    hint{step::rlimit, EPERM, k_needs_privileges},
    hint{step::rlimit, EACCES, k_needs_privileges},
    hint{step::groups, EPERM, k_needs_root},
    hint{step::gid, EPERM, k_needs_root},
    hint{step::uid, EPERM, k_needs_root},
    hint{step::identity, EPERM, k_other_identity},
    hint{step::identity, EACCES, k_other_identity},
    hint{step::identity, EINVAL, k_other_identity},
    hint{step::capabilities, EPERM, "no process gains capabilities that its parent lacks"},
    hint{step::process_group, EPERM, k_no_such_group},
    hint{step::process_group, ESRCH, k_no_such_group},
    hint{step::controlling_terminal, ENOTTY, "that descriptor is no terminal"},
    hint{step::controlling_terminal, EPERM, "the terminal belongs to another session"},
    hint{step::affinity, EINVAL,
         "none of these processors is usable here: see /proc/self/status, Cpus_allowed_list"},
    hint{step::prepare, EMFILE, k_no_descriptor_left},
    hint{step::template_start, EMFILE, k_no_descriptor_left},
    hint{step::launch, EAGAIN, k_no_process_left},
    hint{step::connect, ENOENT, k_nobody_serves},
    hint{step::connect, ECONNREFUSED, k_nobody_serves},
    hint{step::signal, ESRCH, k_no_such_child},
    hint{step::wait, ESRCH, k_no_such_child},
};

// The only one that the object decides too.
const char* remedy_of_missing_program(const std::string& object) {
    if (object.starts_with("descriptor "))
        return "a script cannot be run by descriptor: give its path";
    if (object.find('/') == std::string::npos)
        return "no such program in PATH of the child's environment";
    return "no such program, or its interpreter (#! line, ELF loader) is missing";
}

// What a person can do about it; null when nothing is known.
const char* remedy(const failure& f) {
    if (f.step == step::exec && f.error_number == ENOENT)
        return remedy_of_missing_program(f.object);
    for (const hint& h : k_hints)
        if (h.step == f.step && h.error_number == f.error_number) return h.remedy;
    if (f.error_number == EMFILE) return "raise RLIMIT_NOFILE (ulimit -n)";
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
