#include "client/cli/reports/json_forms.hpp"

#include <cstring>

#include "client/cli/options/values.hpp"

namespace cleanfork::cli {

namespace {

json memory_json(const std::optional<process_memory>& m) {
    if (!m) return nullptr;
    return {{"rss-kib", m->rss_kib},
            {"pss-kib", m->pss_kib},
            {"private-dirty-kib", m->private_dirty_kib}};
}

json generation_json(const generation_info& g) {
    return {{"generation", g.generation},
            {"state", to_string(g.state)},
            {"pid", g.pid},
            {"age-seconds", seconds(g.age)},
            {"initialization-seconds", seconds(g.initialization)},
            {"threads", g.threads},
            {"children", g.children},
            {"leased", g.leased},
            {"memory", memory_json(g.memory())},
            {"warm-pids", g.warm_pids},
            {"warm-memory", memory_json(g.warm_memory())},
            {"unclean", g.unclean},
            {"stderr-tail", g.stderr_tail}};
}

}  // namespace

std::string to_string(tree_means by) {
    return by == tree_means::cgroup ? "cgroup" : by == tree_means::walk ? "walk" : "none";
}

double seconds(std::chrono::nanoseconds time) { return static_cast<double>(time.count()) / 1e9; }

json status_json(const exit_status& status) {
    if (status.is_exited()) return {{"exit-code", status.code()}};
    if (status.is_signaled())
        return {{"signal", status.signal()},
                {"signal-name", signal_name(status.signal())},
                {"core-dumped", status.core_dumped()}};
    return {{"unknown", status.why()}};
}

json usage_json(const resource_usage& usage) {
    return {{"user-seconds", seconds(usage.user)},
            {"system-seconds", seconds(usage.system)},
            {"max-rss-kib", usage.max_rss_kib},
            {"minor-faults", usage.minor_faults},
            {"major-faults", usage.major_faults},
            {"blocks-in", usage.blocks_in},
            {"blocks-out", usage.blocks_out},
            {"voluntary-switches", usage.voluntary_switches},
            {"involuntary-switches", usage.involuntary_switches}};
}

json failure_json(const failure& f) {
    const char* name = ::strerrorname_np(f.error_number);
    return {{"step", std::string(to_string(f.step))},
            {"errno", f.error_number},
            {"errno-name", f.error_number != 0 && name != nullptr ? name : ""},
            {"object", f.object},
            {"message", f.message()}};
}

json child_json(const child_info& child) {
    json j = {{"child", child.child},
              {"pid", child.pid},
              {"session", child.session},
              {"keep", child.keep},
              {"age-seconds", seconds(child.age)},
              {"running", !child.status && !child.restart_in && !child.begins_in},
              {"command", child.command}};
    if (child.leased) j["leased"] = true;
    if (child.begins_in) {
        j["begins-in"] = to_string(*child.begins_in);
        j["given-up"] = child.given_up;
    }
    if (!child.template_name.empty()) j["template"] = child.template_name;
    if (child.tree != tree_means::none) j["tree"] = to_string(child.tree);
    if (!child.error.empty()) j["exception"] = child.error;
    if (child.restart != restart_options::policy::no) {
        const bool always = child.restart == restart_options::policy::always;
        j["restart"] = always ? "always" : "on-failure";
        j["restarts"] = child.restarts;
        if (child.restart_in) j["restart-in-seconds"] = seconds(*child.restart_in);
        if (child.last_status) j["last-status"] = status_json(*child.last_status);
    }
    if (child.status) {
        j.update(status_json(*child.status));
        j["wall-seconds"] = seconds(child.wall);
        j["usage"] = usage_json(child.usage);
    }
    return j;
}

json stats_json(const server_stats& s) {
    return {{"pid", s.pid},
            {"version", s.version},
            {"instance", s.instance},
            {"uptime-seconds", seconds(s.uptime)},
            {"sessions", s.sessions},
            {"sessions-total", s.sessions_total},
            {"children", s.children},
            {"statuses", s.statuses},
            {"queued", s.queued},
            {"spawned-total", s.spawned_total},
            {"failed-total", s.failed_total},
            {"exited-total", s.exited_total},
            {"protocol-errors-total", s.protocol_errors_total},
            {"quota-refusals-total", s.quota_refusals_total},
            {"descriptors", s.descriptors},
            {"rss-kib", s.rss_kib},
            {"spawn-seconds-total", seconds(s.spawn_time_total)},
            {"spawn-seconds-max", seconds(s.spawn_time_max)},
            {"turn-seconds-max", seconds(s.turn_time_max)}};
}

json template_json(const template_info& t) {
    json generations = json::array();
    for (const generation_info& g : t.generations) generations.push_back(generation_json(g));
    return {{"name", t.name},
            {"command", t.command},
            {"from", t.from},
            {"state", to_string(t.state)},
            {"generation", t.generation},
            {"warm-wanted", t.warm_wanted},
            {"restarts", t.restarts},
            {"calls-total", t.calls_total},
            {"waiting", t.waiting},
            {"retry-in-seconds", seconds(t.retry_in)},
            {"last-error", t.last_error ? failure_json(*t.last_error) : json(nullptr)},
            {"stderr-tail", t.stderr_tail},
            {"was-there", t.was_there},
            {"generations", std::move(generations)}};
}

std::string to_line(const json& j) {
    return j.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace cleanfork::cli
