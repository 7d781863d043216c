#include "client/cli/options/spawn_arguments.hpp"

#include <filesystem>
#include <limits>

#include "ipc/base/identity.hpp"

namespace cleanfork::cli {

bool spawn_arguments::targets_standard_stream() const {
    return targets(0) || targets(1) || targets(2);
}

bool spawn_arguments::targets(int number) const {
    for (const fd_mapping& m : fds)
        if (m.target == number) return true;
    return false;
}

void spawn_arguments::add_to(arguments& form, subject s) {
    add_environment(form, s);
    add_descriptors(form, s);
    add_process(form);
    add_limits(form);
    add_identity(form);
    if (s == subject::template_process) return;
    add_end(form, s);
    add_conduct(form, s);
}

void spawn_arguments::add_environment(arguments& form, subject s) {
    environment& env = request.options.env;
    form.heading("Environment");
    form.values(
        "-E,--setenv", "NAME=VALUE", parse_assignment,
        [&env](auto pair) { env.set[std::move(pair.first)] = std::move(pair.second); },
        "Set a variable");
    form.values(
        "-u,--unset", "NAME", as_is,
        [&env](std::string name) { env.unset.push_back(std::move(name)); }, "Remove a variable");
    form.flag("-i,--ignore-environment", env.clear, "Start from an empty environment");
    form.value(
        "-C,--chdir", "DIR", as_is,
        [this](std::string path) { request.options.cwd = std::move(path); },
        "Working directory (default: this one)");
    if (s == subject::entry) return;
    form.value(
        "-a,--argv0", "NAME", as_is,
        [this](std::string name) { request.options.argv0 = std::move(name); },
        "What it sees as its own name");
}

void spawn_arguments::add_descriptors(arguments& form, subject s) {
    form.heading("Descriptors");
    if (s == subject::program) {
        form.values(
            "--fd", "FD[:TARGET]", parse_fd_mapping, [this](fd_mapping m) { fds.push_back(m); },
            "Pass a descriptor of this process");
    } else {
        form.values(
            "--fd", "NAME=FD|PATH", parse_fd_argument,
            [this](std::variant<fd_mapping, named_source> v) {
                if (const auto* m = std::get_if<fd_mapping>(&v))
                    fds.push_back(*m);
                else
                    named_fds.push_back(std::get<named_source>(std::move(v)));
            },
            "Pass a descriptor or a file by name (or as FD[:TARGET])");
    }
    form.values(
        "--listen-fd", "NAME=FD", parse_listen_fd,
        [this](listen_fd l) { request.options.listen_fds.push_back(std::move(l)); },
        "Pass it as socket activation does, from 3 up");
    if (s == subject::template_process) return;
    form.flag("-t,--pty", request.pty, "Run it on a new terminal");
    add_files(form);
}

void spawn_arguments::add_files(arguments& form) {
    form.text("--stdout", "FILE", out_path, "Append its standard output to FILE");
    form.text("--stderr", "FILE", err_path, "Append its standard error to FILE");
    form.value(
        "--rotate-size", "SIZE", parse_size, [this](std::uint64_t size) { rotate_size = size; },
        "Largest FILE, like 10M: then it is FILE.1, and a new one is begun");
    form.value(
        "--rotate-count", "N", integer(0, 1000), [this](unsigned n) { rotate_count = n; },
        "Keep so many old files (default: 5)");
}

void spawn_arguments::add_process(arguments& form) {
    form.heading("Process");
    form.flag("--setsid", setsid, "Leader of a new session");
    form.value(
        "--process-group", "PGID", integer(0, std::numeric_limits<int>::max()),
        [this](int id) {
            process_group_given = true;
            join_group = id != 0 ? std::optional<pid_t>(id) : std::nullopt;
        },
        "Join a group of the forkserver's session (0: its own)");
    form.value(
        "--umask", "OCTAL", parse_umask, [this](mode_t mask) { umask = mask; },
        "Default: that of this process");
    form.value(
        "--cgroup", "PATH", as_is,
        [this](const std::string& path) {
            // The forkserver's working directory is not ours.
            request.options.cgroup = std::filesystem::absolute(path).string();
        },
        "Directory of an existing cgroup v2 to be born in");
}

void spawn_arguments::add_limits(arguments& form) {
    spawn_options& o = request.options;
    form.heading("Limits and scheduling");
    form.values(
        "--rlimit", "NAME=SOFT[:HARD]", parse_rlimit,
        [&o](rlimit_option r) { o.rlimits.push_back(r); },
        "Like nofile=1024, as=2G, core=unlimited");
    form.value(
        "--nice", "N", integer(-20, 19), [&o](int n) { o.nice = n; }, "Niceness, -20 to 19");
    form.value(
        "--cpus", "LIST", parse_cpus, [&o](auto cpus) { o.cpus = std::move(cpus); },
        "Processors it may use, like 0,2-3");
    form.value(
        "--sched", "POLICY[:PRIO]", parse_scheduling, [&o](scheduling s) { o.sched = s; },
        "other, batch, idle, fifo:PRIO or rr:PRIO");
    form.value(
        "--oom-score-adj", "N", integer(-1000, 1000), [&o](int n) { o.oom_score_adj = n; },
        "How readily it is killed, -1000 to 1000");
}

void spawn_arguments::add_identity(arguments& form) {
    form.heading("Identity");
    form.text("--user", "NAME|UID", identity.user, "With the user's groups, as at login");
    form.text("--group", "NAME|GID", identity.group, "Primary group");
    form.text("--groups", "LIST", identity.groups, "Supplementary groups, like audio,44");
    form.flag("--no-new-privs", request.options.no_new_privs,
              "Set-user-ID programs give it nothing");
    const auto capabilities = [&form](const char* option, const char* text,
                                      std::uint64_t ipc::capability_sets::*now,
                                      std::optional<std::uint64_t>& set) {
        form.value(
            option, "LIST",
            [now](const std::string& list) {
                return parse_capabilities(list, ipc::own_identity().rights.capabilities.*now);
            },
            [&set](std::uint64_t bits) { set = bits; }, text);
    };
    using sets = ipc::capability_sets;
    spawn_options& o = request.options;
    capabilities("--ambient-caps", "Like +net_raw,-all: those it keeps as another user",
                 &sets::ambient, o.ambient_caps);
    capabilities("--inh-caps", "Those that files may give it", &sets::inheritable,
                 o.inheritable_caps);
    capabilities("--bounding-set", "Those it can ever have", &sets::bounding, o.bounding_caps);
    form.value(
        "--identity", "caller|forkserver", parse_identity,
        [&o](cleanfork::identity i) { o.identity = i; },
        "Whose rights and limits it has otherwise (default: caller)");
}

void spawn_arguments::add_end(arguments& form, subject s) {
    form.heading("End");
    form.value(
        "--timeout", "DURATION", parse_duration,
        [this](std::chrono::nanoseconds t) {
            // As for timeout(1), 0 means none.
            request.timeout = t.count() != 0 ? std::optional(t) : std::nullopt;
        },
        "Then a signal to its process group, like 10 or 1.5m");
    form.value(
        "-s,--signal", "SIGNAL", [](const std::string& text) { return parse_signal(text); },
        [this](int number) {
            request.timeout_signal = number;
            timeout_signal_given = true;
        },
        "Which signal (default: TERM)");
    const auto kill_after = [this](std::chrono::nanoseconds t) { request.kill_after = t; };
    form.value("-k", "DURATION", parse_duration, kill_after, "As --kill-after");
    form.value("--kill-after", "DURATION", parse_duration, kill_after,
               "After the timeout, then SIGKILL");
    form.flag("--die-with-parent", die_with_parent,
              "Killed when this command or the forkserver dies");
    form.value(
        "--lifetime", "keep|SIG[:GRACE]", parse_lifetime,
        [this](lifetime l) {
            request.options.lifetime = l;
            lifetime_given = true;
        },
        "When this command dies (default: TERM:5s)");
    form.flag("--tree", tree, "Its end is that of all its descendants, also after setsid");
    form.flag("-d,--detach", request.detach, "Print its id and pid, do not wait, let it live on");
    if (s == subject::program) add_restart(form);
}

void spawn_arguments::add_restart(arguments& form) {
    restart_options& r = request.options.restart;
    const auto milliseconds = [](std::chrono::nanoseconds t) {
        return std::chrono::ceil<std::chrono::milliseconds>(t);
    };
    form.heading("Restarts, of a child that is detached");
    form.value(
        "--restart", "POLICY", parse_restart_policy, [&r](auto policy) { r.on = policy; },
        "Start it anew when it has ended: no, on-failure or always");
    form.value(
        "--restart-delay", "DURATION", parse_duration,
        [this, &r, milliseconds](std::chrono::nanoseconds t) {
            r.delay = milliseconds(t);
            restart_detail_given = true;
        },
        "Before the first restart, then doubled (default: 100ms)");
    form.value(
        "--restart-max", "N", integer(0, 10'000),
        [this, &r](unsigned n) {
            r.burst = n;
            restart_detail_given = true;
        },
        "Starts in the window, then no more (default: 5; 0: no limit)");
    form.value(
        "--restart-window", "DURATION", parse_duration,
        [this, &r, milliseconds](std::chrono::nanoseconds t) {
            r.interval = milliseconds(t);
            restart_detail_given = true;
        },
        "The window (default: 10s)");
}

void spawn_arguments::add_conduct(arguments& form, subject s) {
    form.heading("Forkserver");
    form.text("--socket", "PATH", request.socket, "Use the forkserver at this socket, no other");
    if (s == subject::program)
        form.flag("--private", request.only_private, "Use a private forkserver");
    form.heading("Reports");
    form.flag("--json", request.json, "The result as the last line of standard error");
    form.value(
        "--json-status-fd", "FD", integer(0, std::numeric_limits<int>::max()),
        [this](int fd) { request.json_status_fd = fd; }, "Start and result as JSON lines to FD");
    form.flag("-q,--quiet", request.quiet, "Errors only");
    form.flag("-v,--verbose", request.verbose, "Ids, times and usage on standard error");
}

}  // namespace cleanfork::cli
