#include "client/python/src/bind_options.hpp"

#include <fcntl.h>

#include <functional>
#include <string_view>
#include <unordered_map>

namespace cleanfork::python {

namespace {

stdio_option stdio_of(py::handle h) {
    if (h.is_none()) return stdio::null{};
    if (PyLong_Check(h.ptr())) {
        const int number = h.cast<int>();
        switch (number) {
            case k_pipe: return stdio::pipe{};
            case k_stdout: return stdio::to_stdout{};
            case k_devnull: return stdio::null{};
            case k_inherit: return stdio::inherit{};
            default: return stdio::descriptor{number};
        }
    }
    if (py::hasattr(h, "fileno")) return stdio::descriptor{descriptor_of(h)};
    if (py::hasattr(h, "path") && py::hasattr(h, "size") && py::hasattr(h, "count"))
        return stdio::rotated_file{.path = bytes_of(h.attr("path")),
                                   .size = h.attr("size").cast<std::uint64_t>(),
                                   .count = h.attr("count").cast<unsigned>()};
    return stdio::file{.path = bytes_of(h)};
}

path_or_fd path_or_fd_of(py::handle h) {
    if (PyLong_Check(h.ptr()) || py::hasattr(h, "fileno")) return descriptor_of(h);
    return bytes_of(h);
}

std::map<std::string, std::string> variables_of(py::handle h) {
    std::map<std::string, std::string> all;
    for (const py::handle item : py::reinterpret_borrow<py::object>(h).attr("items")()) {
        const auto pair = item.cast<py::tuple>();
        std::string name = bytes_of(pair[0]);
        if (name.find('=') != std::string::npos)
            throw py::value_error("illegal environment variable name");
        all.insert_or_assign(std::move(name), bytes_of(pair[1]));
    }
    return all;
}

// {number in the child: descriptor}, or descriptors that keep their numbers.
std::vector<fd_mapping> descriptors_of(py::handle h) {
    std::vector<fd_mapping> all;
    if (PyMapping_Check(h.ptr()) != 0 && py::hasattr(h, "items")) {
        for (const py::handle item : py::reinterpret_borrow<py::object>(h).attr("items")()) {
            const auto pair = item.cast<py::tuple>();
            all.push_back({.source = descriptor_of(pair[1]), .target = pair[0].cast<int>()});
        }
        return all;
    }
    for (const py::handle each : py::reinterpret_borrow<py::object>(h)) {
        const int fd = descriptor_of(each);
        all.push_back({.source = fd, .target = fd});
    }
    return all;
}

std::vector<rlimit_option> limits_of(py::handle h) {
    std::vector<rlimit_option> all;
    for (const py::handle item : py::reinterpret_borrow<py::object>(h).attr("items")()) {
        const auto pair = item.cast<py::tuple>();
        const auto values = pair[1].cast<py::tuple>();
        const auto limit = [&](std::size_t i) {
            // resource.RLIM_INFINITY is -1.
            return static_cast<rlim_t>(py::object(values[i]).cast<std::int64_t>());
        };
        all.push_back({.resource = pair[0].cast<int>(), .soft = limit(0), .hard = limit(1)});
    }
    return all;
}

lifetime lifetime_of(py::handle h) {
    static const std::unordered_map<std::string_view, signal_target> targets{
        {"process", signal_target::process},
        {"group", signal_target::group},
        {"cgroup", signal_target::cgroup},
        {"tree", signal_target::tree}};
    const auto target = targets.find(h.attr("target").cast<std::string>());
    if (target == targets.end())
        throw py::value_error("a lifetime's target is 'process', 'group', 'cgroup' or 'tree'");
    return {.keep = h.attr("keep").cast<bool>(),
            .signal = h.attr("signal").cast<int>(),
            .grace = std::chrono::milliseconds(
                static_cast<std::int64_t>(h.attr("grace").cast<double>() * 1000)),
            .target = target->second};
}

restart_options::policy restart_policy_of(py::handle h) {
    using policy = restart_options::policy;
    const auto text = h.cast<std::string>();
    if (text == "no") return policy::no;
    if (text == "on-failure") return policy::on_failure;
    if (text == "always") return policy::always;
    throw py::value_error("restart is 'no', 'on-failure' or 'always'");
}

std::chrono::milliseconds milliseconds_of(py::handle seconds) {
    return std::chrono::milliseconds(static_cast<std::int64_t>(seconds.cast<double>() * 1000));
}

using setter = void (*)(spawn_options&, py::handle);
using setter_map = std::unordered_map<std::string_view, setter>;

// What becomes of it.
const setter_map& setters_of_the_end() {
    using o = spawn_options;
    using h = py::handle;
    static const setter_map all{
        {"lifetime", [](o& s, h v) { s.lifetime = lifetime_of(v); }},
        {"restart", [](o& s, h v) { s.restart.on = restart_policy_of(v); }},
        {"restart_delay", [](o& s, h v) { s.restart.delay = milliseconds_of(v); }},
        {"restart_max", [](o& s, h v) { s.restart.burst = v.cast<unsigned>(); }},
        {"restart_window", [](o& s, h v) { s.restart.interval = milliseconds_of(v); }},
    };
    return all;
}

const setter_map& setters() {
    using o = spawn_options;
    using h = py::handle;
    static const setter_map all{
        {"argv0", [](o& s, h v) { s.argv0 = bytes_of(v); }},
        {"stdin", [](o& s, h v) { s.in = stdio_of(v); }},
        {"stdout", [](o& s, h v) { s.out = stdio_of(v); }},
        {"stderr", [](o& s, h v) { s.err = stdio_of(v); }},
        {"fds", [](o& s, h v) { s.fds = descriptors_of(v); }},
        {"listen_fds",
         [](o& s, h v) {
             for (const h each : py::reinterpret_borrow<py::object>(v)) {
                 const auto pair = each.cast<py::tuple>();
                 s.listen_fds.push_back({descriptor_of(pair[0]), bytes_of(pair[1])});
             }
         }},
        {"env", [](o& s, h v) { s.env.set = variables_of(v); }},
        {"cwd", [](o& s, h v) { s.cwd = path_or_fd_of(v); }},
        {"umask", [](o& s, h v) { s.umask = v.cast<mode_t>(); }},
        {"process_group",
         [](o& s, h v) {
             const auto id = v.cast<pid_t>();
             s.group = id == 0 ? process_group{}
                               : process_group{.how = process_group::kind::join, .id = id};
         }},
        {"start_new_session",
         [](o& s, h v) {
             if (v.cast<bool>()) s.group = {.how = process_group::kind::session};
         }},
        {"controlling_terminal", [](o& s, h v) { s.controlling_terminal = v.cast<int>(); }},
        {"rlimits", [](o& s, h v) { s.rlimits = limits_of(v); }},
        {"nice", [](o& s, h v) { s.nice = v.cast<int>(); }},
        {"affinity",
         [](o& s, h v) {
             for (const h cpu : py::reinterpret_borrow<py::object>(v))
                 s.cpus.push_back(cpu.cast<unsigned>());
         }},
        {"scheduling",
         [](o& s, h v) {
             const auto pair = v.cast<py::tuple>();
             s.sched = scheduling{pair[0].cast<int>(), pair[1].cast<int>()};
         }},
        {"oom_score_adj", [](o& s, h v) { s.oom_score_adj = v.cast<int>(); }},
        {"user", [](o& s, h v) { s.uid = v.cast<uid_t>(); }},
        {"group", [](o& s, h v) { s.gid = v.cast<gid_t>(); }},
        {"groups", [](o& s, h v) { s.groups = v.cast<std::vector<gid_t>>(); }},
        {"no_new_privs", [](o& s, h v) { s.no_new_privs = v.cast<bool>(); }},
        {"parent_death_signal", [](o& s, h v) { s.parent_death_signal = v.cast<int>(); }},
        {"ignored_signals",
         [](o& s, h v) {
             // Besides those of the caller, when the child is to be like that.
             for (const int each : v.cast<std::vector<int>>()) s.ignored_signals.push_back(each);
         }},
        {"cgroup", [](o& s, h v) { s.cgroup = path_or_fd_of(v); }},
        {"queue_timeout", [](o& s, h v) { s.queue_timeout = to_timeout(v.cast<double>()); }},
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
    const auto here = bytes_of(py::module_::import("os").attr("getcwdb")());
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
        found->second(a.options, value);
    }
    if (has_environment)
        a.options.env.clear = true;
    else if (!base_is_current)
        a.options.env = current_environment();
    if (a.options.cwd || !base_is_current) make_absolute(a);
    return a;
}

void take_template_keywords(py::kwargs& keywords, template_options& o) {
    using take = std::function<void(py::handle)>;
    const auto milliseconds = [](py::handle v) {
        return std::chrono::milliseconds(static_cast<std::int64_t>(v.cast<double>() * 1000));
    };
    const std::unordered_map<std::string, take> all{
        {"own_program", [&](py::handle v) { o.own_program = v.cast<bool>(); }},
        {"base", [&](py::handle v) { o.from = bytes_of(v); }},
        {"initializer", [&](py::handle v) { o.initializer = bytes_of(v); }},
        {"initializer_args", [&](py::handle v) { o.initializer_args = list_of_bytes(v); }},
        {"initializer_payload",
         [&](py::handle v) { o.initializer_payload = v.cast<std::string>(); }},
        {"warm", [&](py::handle v) { o.warm = v.cast<unsigned>(); }},
        {"start_timeout", [&](py::handle v) { o.start_timeout = milliseconds(v); }},
        {"call_timeout", [&](py::handle v) { o.call_timeout = milliseconds(v); }},
        {"wait", [&](py::handle v) { o.wait = v.cast<bool>(); }},
        {"allowed_descriptors",
         [&](py::handle v) { o.allowed_descriptors = v.cast<std::vector<int>>(); }},
        {"tolerate_unclean", [&](py::handle v) { o.tolerate_unclean = v.cast<bool>(); }},
        {"ends_with_session", [&](py::handle v) { o.ends_with_session = v.cast<bool>(); }},
        {"huge_pages", [&](py::handle v) { o.huge_pages = v.cast<bool>(); }},
        {"initializer_fds",
         [&](py::handle v) { o.initializer_fds = v.cast<std::map<std::string, int>>(); }},
    };
    for (const auto& [name, assign] : all) {
        const py::str key(name);
        if (!keywords.contains(key)) continue;
        const py::object value = keywords.attr("pop")(key);
        if (!value.is_none()) assign(value);
    }
}

}  // namespace cleanfork::python
