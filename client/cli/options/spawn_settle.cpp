// Puts the options of `cleanfork spawn` together, and finds those that contradict.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "client/cli/options/accounts.hpp"
#include "client/cli/options/spawn_arguments.hpp"
#include "ipc/base/proc.hpp"

namespace cleanfork::cli {

namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

// A detached child must not hold the terminal or the pipe its caller reads to
// the end: of the streams not named with --fd it keeps plain files only.
bool outlives_caller(int fd) {
    struct stat about {};
    return ::fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

stdio_option standard_stream(int fd, const spawn_arguments& parsed_arguments,
                             const closed_streams& streams) {
    for (const fd_mapping& m : parsed_arguments.fds)
        if (m.target == fd) return stdio::descriptor{m.source};
    if (streams.closed[fd]) return stdio::null{};
    if (parsed_arguments.request.detach && !outlives_caller(fd)) return stdio::null{};
    return stdio::inherit{};
}

std::string check_descriptors(const spawn_arguments& a, const closed_streams& streams) {
    const auto usable = [&](int fd) {
        return is_open(fd) && (fd > STDERR_FILENO || !streams.closed[fd]);
    };
    std::set<int> targets;
    for (const fd_mapping& m : a.fds) {
        if (!usable(m.source))
            return "--fd: descriptor " + std::to_string(m.source) + " is not open";
        if (!targets.insert(m.target).second)
            return "--fd: " + std::to_string(m.target) + " is given twice as a target";
    }
    std::set<std::string> names;
    for (const named_source& n : a.named_fds) {
        const int* fd = std::get_if<int>(&n.from);
        if (fd != nullptr && !usable(*fd))
            return "--fd: descriptor " + std::to_string(*fd) + " is not open";
        if (!names.insert(n.name).second) return "--fd: the name " + n.name + " is given twice";
    }
    for (const listen_fd& l : a.request.options.listen_fds)
        if (!usable(l.source))
            return "--listen-fd: descriptor " + std::to_string(l.source) + " is not open";
    if (const auto fd = a.request.json_status_fd; fd && !usable(*fd))
        return "--json-status-fd: descriptor " + std::to_string(*fd) + " is not open";
    return {};
}

// The two options that cannot go together, or nothing.
std::string check_combinations(const spawn_arguments& a) {
    const spawn_request& r = a.request;
    const auto both = [](bool first, bool second, const char* text) {
        return first && second ? std::string(text) : std::string();
    };
    for (const std::string& why : {
             both(a.setsid || r.pty, a.join_group.has_value(),
                  "--process-group: a child in a session of its own (--setsid, --pty) leads its "
                  "own group"),
             both(r.pty, r.detach, "--pty: a detached child has nobody at its terminal"),
             both(r.pty, a.targets_standard_stream(),
                  "--pty: the terminal is the child's 0, 1 and 2, so --fd cannot set them"),
             both(r.only_private, r.socket.has_value(),
                  "--private and --socket name two different forkservers"),
             both(r.only_private, r.detach,
                  "--detach needs a forkserver that outlives this command, and a private one does "
                  "not: start one with `cleanfork serve`"),
             both(a.die_with_parent, r.detach,
                  "--detach and --die-with-parent say opposite things"),
             both(a.die_with_parent, a.lifetime_given,
                  "--lifetime and --die-with-parent both say when the child ends"),
             both(r.detach, a.lifetime_given && !r.options.lifetime.keep,
                  "--detach keeps the child: it takes no other --lifetime"),
             both(r.detach, r.timeout.has_value(),
                  "--timeout needs this command to wait, and --detach does not"),
             both(r.kill_after.has_value(), !r.timeout.has_value(),
                  "--kill-after counts from --timeout: give both"),
             both(a.timeout_signal_given, !r.timeout.has_value(),
                  "--signal is what --timeout sends: give both"),
         })
        if (!why.empty()) return why;
    return {};
}

void settle_group_and_lifetime(spawn_arguments& a) {
    spawn_options& o = a.request.options;
    a.request.usual_group = !a.setsid && !a.request.pty && !a.process_group_given;
    if (a.setsid || a.request.pty)
        o.group = {process_group::kind::session, 0};
    else if (a.join_group)
        o.group = {process_group::kind::join, *a.join_group};
    else if (!a.process_group_given && ::isatty(STDIN_FILENO))
        // In a group of its own in the session of this terminal it would be in the background,
        // and stop at its first read.
        o.group = {process_group::kind::session, 0};
    if (a.request.pty) o.controlling_terminal = STDIN_FILENO;

    if (a.request.detach) o.lifetime = lifetime::kept();
    if (a.die_with_parent) {
        o.lifetime = {.signal = SIGKILL, .grace = std::chrono::milliseconds(0)};
        // The lifetime covers this command's death, this the forkserver's.
        o.parent_death_signal = SIGKILL;
    }
    // A pipeline ends as a whole, but a group the child joined is not ours to end.
    o.lifetime.target =
        o.group.how == process_group::kind::join ? signal_target::process : signal_target::group;
}

// The file of `n`, for reading: a shell's redirection has what else one may want.
std::string open_named(const named_source& n, spawn_request& r) {
    if (const int* fd = std::get_if<int>(&n.from)) {
        r.named_fds.emplace(n.name, *fd);
        return {};
    }
    const auto& path = std::get<std::string>(n.from);
    unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!fd) return "--fd: " + path + ": " + std::strerror(errno);
    r.named_fds.emplace(n.name, fd.get());
    r.opened.push_back(std::move(fd));
    return {};
}

}  // namespace

std::string spawn_arguments::settle(const closed_streams& streams) {
    spawn_options& o = request.options;
    if (std::string why = check_combinations(*this); !why.empty()) return why;
    if (std::string why = check_descriptors(*this, streams); !why.empty()) return why;

    const auto who = resolve(identity);
    if (!who) return who.error().why;
    o.uid = who->uid;
    o.gid = who->gid;
    o.groups = who->groups;

    // What a user has set with umask(1) or in a profile must not become wider.
    o.umask = umask ? *umask : ipc::own_umask();
    settle_group_and_lifetime(*this);

    o.in = standard_stream(STDIN_FILENO, *this, streams);
    o.out = standard_stream(STDOUT_FILENO, *this, streams);
    o.err = standard_stream(STDERR_FILENO, *this, streams);
    for (const fd_mapping& m : fds)
        if (m.target > STDERR_FILENO) o.fds.push_back(m);
    for (const named_source& n : named_fds)
        if (std::string why = open_named(n, request); !why.empty()) return why;
    return {};
}

}  // namespace cleanfork::cli
