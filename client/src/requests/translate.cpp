#include "client/src/requests/translate.hpp"

#include <fcntl.h>
#include <limits.h>

#include <algorithm>
#include <cleanfork/pseudo_terminal.hpp>
#include <cstring>

#include "client/src/connection/convert.hpp"
#include "client/src/requests/rotated_files.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/defaults.hpp"

namespace cleanfork::detail {

namespace {

// Installed headers cannot name these. A request leaves out what is the same.
static_assert(cleanfork::lifetime{}.signal == ipc::k_default_end_signal);
static_assert(cleanfork::lifetime{}.grace == ipc::k_default_grace);
static_assert(restart_options{}.delay == ipc::k_default_restart_delay);
static_assert(restart_options{}.max_delay == ipc::k_default_restart_max_delay);
static_assert(restart_options{}.burst == ipc::k_default_restart_burst);
static_assert(restart_options{}.interval == ipc::k_default_restart_interval);

struct translator {
    const spawn_options& options;
    v1::SpawnRequest& request;
    descriptor_list& descriptors;
    parent_ends& ends;

    void map(std::uint32_t source, int target) const {
        v1::DescriptorMapping& m = *request.add_descriptors();
        m.set_source_descriptor(source);
        m.set_target(target);
    }
    [[nodiscard]] std::uint32_t child(int fd) const {
        return descriptors.add(fd, v1::DESCRIPTOR_PURPOSE_CHILD);
    }

    void program() const;
    [[nodiscard]] result<void> streams() const;
    [[nodiscard]] result<void> check_terminal() const;
    [[nodiscard]] result<std::uint32_t> terminal(const stdio::pty& settings, int target) const;
    // The place of the descriptor for `target`; 0: /dev/null.
    [[nodiscard]] result<std::uint32_t> stream(const stdio_option& o, int target,
                                               std::uint32_t out) const;
    [[nodiscard]] result<std::uint32_t> pipe(int target) const;
    [[nodiscard]] result<std::uint32_t> file(const stdio::file& f, int target) const;
    void descriptor_map() const;
    void environment() const;
    void places() const;
    void limits() const;
    void credentials() const;
    void life() const;
    void restart() const;
};

// The file a descriptor refers to is the name a program would expect as its own.
std::string path_of(int fd) {
    char path[PATH_MAX];
    const ssize_t n =
        ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path);
    return n > 0 ? std::string(path, static_cast<std::size_t>(n)) : "program";
}

void translator::program() const {
    v1::ExecTarget& exec = *request.mutable_exec();
    if (const int* fd = std::get_if<int>(&options.program)) {
        exec.set_program_descriptor(descriptors.add(*fd, v1::DESCRIPTOR_PURPOSE_EXECUTABLE));
        exec.add_argv(options.argv0 ? *options.argv0 : path_of(*fd));
    } else {
        const auto& name = std::get<std::string>(options.program);
        if (name.find('/') == std::string::npos)
            exec.set_search(name);
        else
            exec.set_path(name);
        exec.add_argv(options.argv0 ? *options.argv0 : name);
    }
    for (const std::string& argument : options.args) exec.add_argv(argument);
}

result<std::uint32_t> translator::pipe(int target) const {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0)
        return ipc::fail(step::request, errno, "pipe", "could not create a pipe for the child");
    unique_fd read_end(fds[0]), write_end(fds[1]);
    unique_fd& ours = target == 0 ? ends.in : target == 1 ? ends.out : ends.err;
    ours = std::move(target == 0 ? write_end : read_end);
    return descriptors.add_owned(std::move(target == 0 ? read_end : write_end),
                                 v1::DESCRIPTOR_PURPOSE_CHILD);
}

result<std::uint32_t> translator::file(const stdio::file& f, int target) const {
    const int how = target == 0 ? O_RDONLY : O_WRONLY | O_CREAT | (f.append ? O_APPEND : O_TRUNC);
    unique_fd fd(
        ipc::retry([&] { return ::open(f.path.c_str(), how | O_CLOEXEC | O_NOCTTY, 0666); }));
    if (!fd) {
        const int error = errno;
        return ipc::fail(step::request, error, f.path,
                         target == 0   ? "could not open the file for standard input"
                         : target == 1 ? "could not open the file for standard output"
                                       : "could not open the file for standard error");
    }
    return descriptors.add_owned(std::move(fd), v1::DESCRIPTOR_PURPOSE_CHILD);
}

result<std::uint32_t> translator::stream(const stdio_option& o, int target,
                                         std::uint32_t out) const {
    if (std::holds_alternative<stdio::inherit>(o)) return child(target);
    if (std::holds_alternative<stdio::pipe>(o)) return pipe(target);
    if (const auto* d = std::get_if<stdio::descriptor>(&o)) return child(d->fd);
    if (const auto* f = std::get_if<stdio::file>(&o)) return file(*f, target);
    if (const auto* t = std::get_if<stdio::pty>(&o)) return terminal(*t, target);
    if (const auto* f = std::get_if<stdio::rotated_file>(&o)) {
        if (auto r = add_log(*f, target, request, descriptors); !r) return r.error();
        return 0U;
    }
    if (std::holds_alternative<stdio::to_stdout>(o)) {
        if (target != 2)
            return ipc::fail(step::request, EINVAL, "stdio::to_stdout",
                             "only standard error can go where standard output goes");
        if (std::holds_alternative<stdio::rotated_file>(options.out))
            request.mutable_logs(0)->add_targets(target);
        return out;
    }
    return 0U;
}

result<void> refused_pty(const char* why) {
    return ipc::fail(step::request, EINVAL, "stdio::pty", why);
}

result<void> translator::check_terminal() const {
    const stdio::pty* first = nullptr;
    for (const stdio_option* o : {&options.in, &options.out, &options.err})
        if (const auto* wanted = std::get_if<stdio::pty>(o)) {
            if (first != nullptr && *wanted != *first)
                return refused_pty(
                    "the streams of a child share one terminal: their settings differ");
            first = wanted;
        }
    if (first == nullptr) return {};
    if (options.group.how == process_group::kind::join)
        return refused_pty("the child leads a session, whose terminal it is: it can join no group");
    if (options.controlling_terminal)
        return refused_pty("it is the child's controlling terminal: there can be no other");
    return {};
}

// It becomes the controlling terminal of the session that the child leads.
result<std::uint32_t> translator::terminal(const stdio::pty& settings, int target) const {
    auto pty = open_pty(settings);
    if (!pty) return pty.error();
    ends.pty = std::move(pty->master);
    request.set_process_group(v1::PROCESS_GROUP_SESSION);
    request.set_controlling_terminal(target);
    return descriptors.add_owned(std::move(pty->child_end), v1::DESCRIPTOR_PURPOSE_CHILD);
}

result<void> translator::streams() const {
    if (auto r = check_terminal(); !r) return r;
    std::uint32_t out = 0, pty = 0;
    const stdio_option* const all[] = {&options.in, &options.out, &options.err};
    for (int target = 0; target < 3; ++target) {
        const bool at_pty = std::holds_alternative<stdio::pty>(*all[target]);
        auto place =
            at_pty && pty != 0 ? result<std::uint32_t>(pty) : stream(*all[target], target, out);
        if (!place) return place.error();
        if (at_pty) pty = *place;
        if (target == 1) out = *place;
        if (*place != 0) map(*place, target);
    }
    return {};
}

void translator::descriptor_map() const {
    for (const fd_mapping& m : options.fds) map(child(m.source), m.target);
    for (const listen_fd& l : options.listen_fds) {
        v1::ListenDescriptor& d = *request.add_listen_descriptors();
        d.set_source_descriptor(child(l.source));
        d.set_name(l.name);
    }
}

void translator::environment() const {
    const cleanfork::environment& env = options.env;
    if (!env.clear && env.unset.empty() && env.set.empty()) return;
    v1::Environment& out = *request.mutable_environment();
    out.set_clear(env.clear);
    for (const std::string& name : env.unset) out.add_unset(name);
    for (const auto& [name, value] : env.set) {
        std::string& entry = *out.add_set();
        entry.reserve(name.size() + value.size() + 1);
        entry.append(name).append("=").append(value);
    }
}

void translator::places() const {
    if (options.cwd) {
        if (const int* fd = std::get_if<int>(&*options.cwd))
            request.set_cwd_descriptor(descriptors.add(*fd, v1::DESCRIPTOR_PURPOSE_CWD));
        else
            request.set_cwd_path(std::get<std::string>(*options.cwd));
    }
    if (options.cgroup) {
        if (const int* fd = std::get_if<int>(&*options.cgroup))
            request.set_cgroup_descriptor(descriptors.add(*fd, v1::DESCRIPTOR_PURPOSE_CGROUP));
        else
            request.set_cgroup_path(std::get<std::string>(*options.cgroup));
    }
    switch (options.group.how) {
        case process_group::kind::own: break;
        case process_group::kind::join:
            request.set_process_group(v1::PROCESS_GROUP_JOIN);
            request.set_process_group_id(options.group.id);
            break;
        case process_group::kind::session:
            request.set_process_group(v1::PROCESS_GROUP_SESSION);
            break;
    }
    if (options.controlling_terminal)
        request.set_controlling_terminal(*options.controlling_terminal);
}

void translator::limits() const {
    if (options.umask != ipc::k_default_umask) request.set_umask(options.umask);
    for (const rlimit_option& l : options.rlimits) {
        v1::Rlimit& out = *request.add_rlimits();
        out.set_resource(static_cast<std::uint32_t>(l.resource) + 1);
        out.set_soft(l.soft);
        out.set_hard(l.hard);
    }
    if (options.nice) request.set_nice(*options.nice);
    for (const unsigned cpu : options.cpus) request.add_cpus(cpu);
    if (options.sched) {
        request.mutable_scheduling()->set_policy(static_cast<std::uint32_t>(options.sched->policy) +
                                                 1);
        request.mutable_scheduling()->set_priority(options.sched->priority);
    }
    if (options.oom_score_adj) request.set_oom_score_adj(*options.oom_score_adj);
}

void translator::credentials() const {
    if (options.uid) request.set_uid(*options.uid);
    if (options.gid) request.set_gid(*options.gid);
    if (options.groups) {
        v1::Groups& groups = *request.mutable_groups();
        for (const gid_t g : *options.groups) groups.add_gid(g);
    }
    if (options.no_new_privs) request.set_no_new_privs(true);
    if (options.ambient_caps) request.set_ambient_capabilities(*options.ambient_caps);
    if (options.inheritable_caps) request.set_inheritable_capabilities(*options.inheritable_caps);
    if (options.bounding_caps) request.set_bounding_capabilities(*options.bounding_caps);
    request.set_as_forkserver(options.identity == identity::of_forkserver);
    if (options.parent_death_signal != 0)
        request.set_parent_death_signal(options.parent_death_signal);
    for (const int s : options.ignored_signals) request.add_ignored_signals(s);
}

void translator::life() const {
    const cleanfork::lifetime& l = options.lifetime;
    const cleanfork::lifetime usual{};
    if (l.keep || l.signal != usual.signal || l.grace != usual.grace || l.target != usual.target) {
        v1::Lifetime& out = *request.mutable_lifetime();
        out.set_keep(l.keep);
        out.set_signal(l.signal);
        out.set_grace_ms(to_wire(l.grace));
        out.set_target(to_wire(l.target));
    }
    restart();
    if (options.queue_timeout)
        request.set_queue_timeout_ns(
            static_cast<std::uint64_t>(std::max<std::int64_t>(options.queue_timeout->count(), 0)));
}

void translator::restart() const {
    const restart_options& r = options.restart;
    if (r.on == restart_options::policy::no) return;
    v1::Restart& out = *request.mutable_restart();
    out.set_policy(r.on == restart_options::policy::always ? v1::RESTART_POLICY_ALWAYS
                                                           : v1::RESTART_POLICY_ON_FAILURE);
    out.set_delay_ms(to_wire(r.delay));
    out.set_max_delay_ms(to_wire(r.max_delay));
    out.set_burst(r.burst);
    out.set_interval_ms(to_wire(r.interval));
}

}  // namespace

result<void> translate(const spawn_options& options, v1::SpawnRequest& request,
                       descriptor_list& descriptors, parent_ends& ends) {
    translator{options, request, descriptors, ends}.program();
    return translate_attributes(options, request, descriptors, ends);
}

result<void> translate_attributes(const spawn_options& options, v1::SpawnRequest& request,
                                  descriptor_list& descriptors, parent_ends& ends) {
    const translator t{options, request, descriptors, ends};
    if (auto r = t.streams(); !r) return r.error();
    t.descriptor_map();
    t.environment();
    t.places();
    t.limits();
    t.credentials();
    t.life();
    return descriptors.check();
}

namespace {

// A directory that may not be searched (any more) cannot be opened as ".", which the program
// stands in all the same.
unique_fd open_working_directory() {
    constexpr int k_how = O_PATH | O_DIRECTORY | O_CLOEXEC;
    unique_fd here(::open(".", k_how));
    if (!here && errno == EACCES) here.reset(::open("/proc/self/cwd", k_how));
    return here;
}

}  // namespace

result<void> fill_base(v1::SessionBase& base, descriptor_list& descriptors) {
    for (char** e = environ; e != nullptr && *e != nullptr; ++e) {
        // Entries without a name are no variables; the forkserver refuses them.
        if (const char* equals = std::strchr(*e, '='); equals != nullptr && equals != *e)
            base.add_environment(*e);
    }
    // Without it children would be where the forkserver is: elsewhere, and nobody would see it.
    unique_fd cwd = open_working_directory();
    if (!cwd)
        return ipc::fail(step::request, errno, "working directory",
                         "it could not be opened, so children could not be started in it");
    base.set_cwd_descriptor(descriptors.add_owned(std::move(cwd), v1::DESCRIPTOR_PURPOSE_CWD));
    return {};
}

}  // namespace cleanfork::detail
