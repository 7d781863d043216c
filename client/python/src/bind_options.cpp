#include "client/python/src/bind_options.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cctype>
#include <functional>
#include <string_view>
#include <unordered_map>

#include "ipc/base/identity.hpp"

namespace cleanfork::python {

namespace {

stdio_option stdio_of(py::handle h, const char* name) {
    if (h.is_none()) return stdio::null{};
    if (PyLong_Check(h.ptr())) {
        const int number = integer_of<int>(h, name);
        switch (number) {
            case k_pipe: return stdio::pipe{};
            case k_stdout: return stdio::to_stdout{};
            case k_devnull: return stdio::null{};
            case k_inherit: return stdio::inherit{};
            default: return stdio::descriptor{number};
        }
    }
    if (py::hasattr(h, "fileno")) return stdio::descriptor{descriptor_of(h, name)};
    if (py::hasattr(h, "path") && py::hasattr(h, "size") && py::hasattr(h, "count"))
        return stdio::rotated_file{
            .path = bytes_of(h.attr("path"), name),
            .size = static_cast<std::uint64_t>(
                integer_between(h.attr("size"), name, 0, std::numeric_limits<std::int64_t>::max())),
            .count = integer_of<unsigned>(h.attr("count"), name)};
    return stdio::file{.path = bytes_of(h, name)};
}

std::map<std::string, std::string> variables_of(py::handle h, const char* name) {
    std::map<std::string, std::string> all;
    for_each_item(h, name, [&](py::handle key, py::handle value) {
        std::string variable = bytes_of(key, name);
        if (variable.find('=') != std::string::npos)
            throw py::value_error("illegal environment variable name");
        all.insert_or_assign(std::move(variable), bytes_of(value, name));
    });
    return all;
}

// {number in the child: descriptor}, or descriptors that keep their numbers.
std::vector<fd_mapping> descriptors_of(py::handle h, const char* name) {
    std::vector<fd_mapping> all;
    if (PyMapping_Check(h.ptr()) != 0 && py::hasattr(h, "items")) {
        for_each_item(h, name, [&](py::handle number, py::handle fd) {
            all.push_back(
                {.source = descriptor_of(fd, name), .target = integer_of<int>(number, name)});
        });
        return all;
    }
    for_each_of(h, name, [&](py::handle each) {
        const int fd = descriptor_of(each, name);
        all.push_back({.source = fd, .target = fd});
    });
    return all;
}

std::vector<listen_fd> sockets_of(py::handle h, const char* name) {
    std::vector<listen_fd> all;
    for_each_of(h, name, [&](py::handle each) {
        const auto [fd, called] = pair_of(each, name);
        all.push_back({descriptor_of(fd, name), bytes_of(called, name)});
    });
    return all;
}

std::vector<rlimit_option> limits_of(py::handle h, const char* name) {
    std::vector<rlimit_option> all;
    const auto limit = [&](py::handle value) {
        // resource.RLIM_INFINITY is -1.
        constexpr auto k_most = std::numeric_limits<std::int64_t>::max();
        return static_cast<rlim_t>(integer_between(value, name, -1, k_most));
    };
    for_each_item(h, name, [&](py::handle resource, py::handle values) {
        const auto [soft, hard] = pair_of(values, name);
        all.push_back({.resource = integer_of<int>(resource, name),
                       .soft = limit(soft),
                       .hard = limit(hard)});
    });
    return all;
}

lifetime lifetime_of(py::handle h) {
    static const std::unordered_map<std::string_view, signal_target> targets{
        {"process", signal_target::process},
        {"group", signal_target::group},
        {"cgroup", signal_target::cgroup},
        {"tree", signal_target::tree}};
    for (const char* const member : {"keep", "signal", "grace", "target"})
        if (!py::hasattr(h, member)) refuse_type("lifetime", "a cleanfork.Lifetime", h);
    const auto target = targets.find(bytes_of(h.attr("target"), "lifetime.target"));
    if (target == targets.end())
        throw py::value_error("a lifetime's target is 'process', 'group', 'cgroup' or 'tree'");
    return {.keep = truth_of(h.attr("keep")),
            .signal = integer_of<int>(h.attr("signal"), "lifetime.signal"),
            .grace = milliseconds_of(h.attr("grace"), "lifetime.grace"),
            .target = target->second};
}

// Names ("net_raw", "CAP_NET_RAW") or numbers.
std::uint64_t capabilities_of(py::handle h, const char* name) {
    std::uint64_t set = 0;
    for_each_of(h, name, [&](py::handle each) {
        std::optional<unsigned> number;
        if (PyLong_Check(each.ptr())) {
            number = integer_of<unsigned>(each, name);
        } else {
            std::string given = bytes_of(each, name);
            std::transform(given.begin(), given.end(), given.begin(), ::tolower);
            number = ipc::capability_of(given);
        }
        if (!number || *number >= ipc::capability_count())
            throw py::value_error("there is no capability " + py::repr(each).cast<std::string>());
        set |= std::uint64_t{1} << *number;
    });
    return set;
}

identity identity_of(py::handle h, const char* name) {
    const std::string given = bytes_of(h, name);
    if (given == "caller") return identity::of_caller;
    if (given == "forkserver") return identity::of_forkserver;
    throw py::value_error("argument 'identity' must be 'caller' or 'forkserver'");
}

process_group group_of(py::handle h, const char* name) {
    const auto id = integer_of<pid_t>(h, name);
    if (id < 0) throw py::value_error("argument '" + std::string(name) + "' must not be negative");
    if (id == 0) return {};
    return {.how = process_group::kind::join, .id = id};
}

scheduling scheduling_of(py::handle h, const char* name) {
    const auto [policy, priority] = pair_of(h, name);
    return {integer_of<int>(policy, name), integer_of<int>(priority, name)};
}

restart_options::policy restart_policy_of(py::handle h, const char* name) {
    using policy = restart_options::policy;
    const std::string text = bytes_of(h, name);
    if (text == "no") return policy::no;
    if (text == "on-failure") return policy::on_failure;
    if (text == "always") return policy::always;
    throw py::value_error("restart is 'no', 'on-failure' or 'always'");
}

using n = const char*;
using setter = void (*)(spawn_options&, py::handle, n);
using setter_map = std::unordered_map<std::string_view, setter>;

// What becomes of it.
const setter_map& setters_of_the_end() {
    using o = spawn_options;
    using h = py::handle;
    static const setter_map all{
        {"lifetime", [](o& s, h v, n) { s.lifetime = lifetime_of(v); }},
        {"restart", [](o& s, h v, n name) { s.restart.on = restart_policy_of(v, name); }},
        {"restart_delay", [](o& s, h v, n name) { s.restart.delay = milliseconds_of(v, name); }},
        {"restart_max", [](o& s, h v, n name) { s.restart.burst = integer_of<unsigned>(v, name); }},
        {"restart_window",
         [](o& s, h v, n name) { s.restart.interval = milliseconds_of(v, name); }},
    };
    return all;
}

const setter_map& setters() {
    using o = spawn_options;
    using h = py::handle;
    static const setter_map all{
        {"argv0", [](o& s, h v, n name) { s.argv0 = bytes_of(v, name); }},
        {"stdin", [](o& s, h v, n name) { s.in = stdio_of(v, name); }},
        {"stdout", [](o& s, h v, n name) { s.out = stdio_of(v, name); }},
        {"stderr", [](o& s, h v, n name) { s.err = stdio_of(v, name); }},
        {"fds", [](o& s, h v, n name) { s.fds = descriptors_of(v, name); }},
        {"listen_fds", [](o& s, h v, n name) { s.listen_fds = sockets_of(v, name); }},
        {"env", [](o& s, h v, n name) { s.env.set = variables_of(v, name); }},
        {"cwd", [](o& s, h v, n name) { s.cwd = path_or_fd_of(v, name); }},
        {"umask", [](o& s, h v, n name) { s.umask = integer_of<mode_t>(v, name); }},
        {"process_group", [](o& s, h v, n name) { s.group = group_of(v, name); }},
        {"start_new_session",
         [](o& s, h v, n) {
             if (truth_of(v)) s.group = {.how = process_group::kind::session};
         }},
        {"controlling_terminal",
         [](o& s, h v, n name) { s.controlling_terminal = integer_of<int>(v, name); }},
        {"rlimits", [](o& s, h v, n name) { s.rlimits = limits_of(v, name); }},
        {"nice", [](o& s, h v, n name) { s.nice = integer_of<int>(v, name); }},
        {"affinity", [](o& s, h v, n name) { s.cpus = integers_of<unsigned>(v, name); }},
        {"scheduling", [](o& s, h v, n name) { s.sched = scheduling_of(v, name); }},
        {"oom_score_adj", [](o& s, h v, n name) { s.oom_score_adj = integer_of<int>(v, name); }},
        {"user", [](o& s, h v, n name) { s.uid = integer_of<uid_t>(v, name); }},
        {"group", [](o& s, h v, n name) { s.gid = integer_of<gid_t>(v, name); }},
        {"groups", [](o& s, h v, n name) { s.groups = integers_of<gid_t>(v, name); }},
        {"no_new_privs", [](o& s, h v, n) { s.no_new_privs = truth_of(v); }},
        {"ambient_caps", [](o& s, h v, n name) { s.ambient_caps = capabilities_of(v, name); }},
        {"inheritable_caps",
         [](o& s, h v, n name) { s.inheritable_caps = capabilities_of(v, name); }},
        {"bounding_caps", [](o& s, h v, n name) { s.bounding_caps = capabilities_of(v, name); }},
        {"identity", [](o& s, h v, n name) { s.identity = identity_of(v, name); }},
        {"parent_death_signal",
         [](o& s, h v, n name) { s.parent_death_signal = integer_of<int>(v, name); }},
        {"ignored_signals",
         [](o& s, h v, n name) {
             // Besides those of the caller, when the child is to be like that.
             for (const int each : integers_of<int>(v, name)) s.ignored_signals.push_back(each);
         }},
        {"cgroup", [](o& s, h v, n name) { s.cgroup = path_or_fd_of(v, name); }},
        {"queue_timeout",
         [](o& s, h v, n name) { s.queue_timeout = to_timeout(seconds_of(v, name)); }},
    };
    return all;
}

// The place of `path` does not depend on where the forkserver is.
void make_absolute(child_attributes& a) {
    auto* const path = a.options.cwd ? std::get_if<std::string>(&*a.options.cwd) : nullptr;
    if (a.options.cwd && (path == nullptr || path->starts_with('/'))) return;
    a.cwd.reset(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (path == nullptr) {
        if (a.cwd) a.options.cwd = a.cwd.get();
        return;
    }
    const auto here = bytes_of(py::module_::import("os").attr("getcwdb")(), "cwd");
    a.cwd.reset();
    *path = here + "/" + *path;
}

}  // namespace

child_attributes attributes_of(const py::kwargs& keywords, bool base_is_current,
                               spawn_options start) {
    child_attributes a{.options = std::move(start), .cwd = {}};
    bool has_environment = false;
    for (const auto& [key, value] : keywords) {
        const auto name = key.cast<std::string_view>();
        auto found = setters().find(name);
        if (found == setters().end()) found = setters_of_the_end().find(name);
        if (found == setters_of_the_end().end())
            throw py::type_error("'" + std::string(name) + "' is no option of a spawn");
        if (value.is_none()) continue;
        has_environment = has_environment || name == "env";
        found->second(a.options, value, found->first.data());  // of a literal
    }
    if (has_environment)
        a.options.env.clear = true;
    else if (!base_is_current)
        a.options.env = current_environment();
    if (a.options.cwd || !base_is_current) make_absolute(a);
    return a;
}

void take_template_keywords(py::kwargs& keywords, template_options& o) {
    using take = std::function<void(py::handle, n)>;
    using h = py::handle;
    const std::unordered_map<std::string_view, take> all{
        {"own_program", [&](h v, n) { o.own_program = truth_of(v); }},
        {"base", [&](h v, n name) { o.from = bytes_of(v, name); }},
        {"initializer", [&](h v, n name) { o.initializer = bytes_of(v, name); }},
        {"initializer_args", [&](h v, n name) { o.initializer_args = list_of_bytes(v, name); }},
        {"initializer_payload", [&](h v, n name) { o.initializer_payload = buffer_of(v, name); }},
        {"warm", [&](h v, n name) { o.warm = integer_of<unsigned>(v, name); }},
        {"start_timeout", [&](h v, n name) { o.start_timeout = milliseconds_of(v, name); }},
        {"call_timeout", [&](h v, n name) { o.call_timeout = milliseconds_of(v, name); }},
        {"wait", [&](h v, n) { o.wait = truth_of(v); }},
        {"allowed_descriptors",
         [&](h v, n name) { o.allowed_descriptors = integers_of<int>(v, name); }},
        {"tolerate_unclean", [&](h v, n) { o.tolerate_unclean = truth_of(v); }},
        {"ends_with_session", [&](h v, n) { o.ends_with_session = truth_of(v); }},
        {"unless_there", [&](h v, n) { o.unless_there = truth_of(v); }},
        {"huge_pages", [&](h v, n) { o.huge_pages = truth_of(v); }},
        {"initializer_fds",
         [&](h v, n name) { o.initializer_fds = named_descriptors_of(v, name); }},
    };
    for (const auto& [name, assign] : all) {
        const py::str key(name);
        if (!keywords.contains(key)) continue;
        const py::object value = keywords.attr("pop")(key);
        if (!value.is_none()) assign(value, name.data());  // of a literal
    }
}

}  // namespace cleanfork::python
