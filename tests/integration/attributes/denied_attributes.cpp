// Steps of a child that only a system call made to fail can show, of a spawn and of a call.
#include <sched.h>
#include <sys/prctl.h>

#include <csignal>

#include "tests/integration/attributes/failing_steps.hpp"

namespace cleanfork::test {

std::string rule(const std::string& call, int error_number) {
    return call + "=" + std::to_string(error_number);
}

std::string argument(int number, std::uint64_t value) {
    return ":arg" + std::to_string(number) + "=" + std::to_string(value);
}

std::vector<failing> denied_attributes(const path_or_fd& program) {
    const process_group session{.how = process_group::kind::session};
    const spawn_options plain{.program = program};
    return {
        {"no way to a new session",
         step::session,
         EPERM,
         "",
         {.program = program, .group = session},
         {rule("setsid", EPERM)}},
        {"no way to a group of its own",
         step::process_group,
         EACCES,
         "",
         plain,
         {rule("setpgid", EACCES)},
         {},
         false},
        {"a descriptor that cannot be put in its place",
         step::descriptors,
         EBUSY,
         "descriptor 0",
         plain,
         {rule("dup2", EBUSY)},
         {},
         false},
        {"no way to be nicer",
         step::nice,
         EACCES,
         "5",
         {.program = program, .nice = 5},
         {rule("setpriority", EACCES)}},
        {"no way to another policy",
         step::scheduler,
         EPERM,
         "",
         {.program = program, .sched = scheduling{SCHED_BATCH}},
         {rule("sched_setscheduler", EPERM)}},
        {"no way to other processors",
         step::affinity,
         EPERM,
         "",
         {.program = program, .cpus = {0}},
         {rule("sched_setaffinity", EPERM)}},
        {"no way to other groups",
         step::groups,
         EPERM,
         "",
         {.program = program, .groups = std::vector<gid_t>{1}},
         {rule("setgroups", EPERM)}},
        {"no way to another group",
         step::gid,
         EPERM,
         "1",
         {.program = program, .gid = 1},
         {rule("setresgid", EPERM)}},
        {"too many processes of the user",
         step::uid,
         EAGAIN,
         "1",
         {.program = program, .uid = 1, .groups = std::vector<gid_t>{}},
         {rule("setresuid", EAGAIN), rule("setgroups", 0)}},
        {"capabilities that cannot be changed",
         step::capabilities,
         EPERM,
         "",
         {.program = program, .inheritable_caps = 1},
         {rule("capset", EPERM)}},
        {"no way to give up privileges",
         step::no_new_privs,
         EINVAL,
         "",
         {.program = program, .no_new_privs = true},
         {rule("prctl" + argument(0, PR_SET_NO_NEW_PRIVS), EINVAL)}},
        {"the base directory cannot be entered",
         step::chdir,
         EIO,
         "descriptor of the working directory",
         plain,
         {rule("fchdir", EIO)},
         {},
         false},
        {"no signal at the parent's death",
         step::parent_death_signal,
         EINVAL,
         "",
         {.program = program, .parent_death_signal = SIGTERM},
         {rule("prctl" + argument(0, PR_SET_PDEATHSIG), EINVAL)}},
        {"the signal mask stays",
         step::signal_mask,
         EPERM,
         "",
         plain,
         {rule("rt_sigprocmask" + argument(0, SIG_SETMASK), EPERM)},
         {},
         false},
    };
}

}  // namespace cleanfork::test
