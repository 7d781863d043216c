#include "client/python/src/bind_reports.hpp"

namespace cleanfork::python {

namespace {

template <class Duration>
double seconds(Duration d) {
    return std::chrono::duration<double>(d).count();
}

py::dict dict_of(const generation_info& g) {
    py::dict d;
    d["generation"] = g.generation;
    d["state"] = std::string(to_string(g.state));
    d["pid"] = g.pid;
    d["age"] = seconds(g.age);
    d["initialization"] = seconds(g.initialization);
    d["threads"] = g.threads;
    d["children"] = g.children;
    d["warm_pids"] = g.warm_pids;
    d["unclean"] = text_of(g.unclean);
    d["stderr_tail"] = text_of(g.stderr_tail);
    return d;
}

py::dict dict_of(const histogram& h) {
    py::list bounds;
    for (const std::chrono::nanoseconds b : h.bounds) bounds.append(seconds(b));
    py::dict d;
    d["bounds"] = bounds;
    d["counts"] = h.counts;
    d["sum"] = seconds(h.sum);
    return d;
}

py::dict dict_of(const server_metrics& m) {
    py::dict failures;
    for (const auto& [at, count] : m.failures) failures[py::str(to_string(at))] = count;
    py::dict d;
    d["exec"] = dict_of(m.exec);
    d["call"] = dict_of(m.call);
    d["warm_call"] = dict_of(m.warm_call);
    d["queued"] = dict_of(m.queued);
    d["turns"] = dict_of(m.turns);
    d["failures"] = failures;
    d["leased_calls"] = m.leased_calls;
    d["exited_zero"] = m.exited_zero;
    d["exited_other"] = m.exited_other;
    d["signalled"] = m.signalled;
    d["unknown"] = m.unknown;
    return d;
}

}  // namespace

py::dict dict_of(const server_info& s) {
    py::dict d;
    d["instance"] = s.instance;
    d["version"] = s.version;
    d["pid"] = s.pid;
    d["session"] = s.session;
    d["features"] = s.features;
    return d;
}

py::dict dict_of(const server_stats& s) {
    py::dict d;
    d["pid"] = s.pid;
    d["version"] = s.version;
    d["instance"] = s.instance;
    d["uptime"] = seconds(s.uptime);
    d["sessions"] = s.sessions;
    d["sessions_total"] = s.sessions_total;
    d["children"] = s.children;
    d["statuses"] = s.statuses;
    d["queued"] = s.queued;
    d["spawned_total"] = s.spawned_total;
    d["failed_total"] = s.failed_total;
    d["exited_total"] = s.exited_total;
    d["protocol_errors_total"] = s.protocol_errors_total;
    d["quota_refusals_total"] = s.quota_refusals_total;
    d["descriptors"] = s.descriptors;
    d["rss_kib"] = s.rss_kib;
    d["spawn_time_total"] = seconds(s.spawn_time_total);
    d["spawn_time_max"] = seconds(s.spawn_time_max);
    d["turn_time_max"] = seconds(s.turn_time_max);
    d["metrics"] = dict_of(s.metrics);
    return d;
}

py::dict dict_of(const event_page& p) {
    py::list events;
    for (const event& e : p.events) {
        py::dict d;
        d["time"] = std::chrono::duration<double>(e.time.time_since_epoch()).count();
        d["level"] = e.level;
        d["event"] = e.name;
        for (const auto& [key, value] : e.fields) {
            if (const auto* text = std::get_if<std::string>(&value))
                d[py::str(key)] = text_of(*text);
            else
                d[py::str(key)] = std::get<std::int64_t>(value);
        }
        events.append(d);
    }
    py::dict d;
    d["events"] = events;
    d["next"] = p.next;
    d["last"] = p.last;
    d["dropped"] = p.dropped;
    return d;
}

py::dict dict_of(const child_info& c) {
    py::dict d;
    d["child"] = c.child;
    d["pid"] = c.pid;
    d["session"] = c.session;
    d["command"] = text_of(c.command);
    d["template_name"] = text_of(c.template_name);
    d["age"] = seconds(c.age);
    d["keep"] = c.keep;
    d["tree"] = name_of(c.tree);
    d["begins_in"] = c.begins_in ? py::cast(std::string(to_string(*c.begins_in))) : py::none();
    d["given_up"] = c.given_up;
    d["restarts"] = c.restarts;
    d["last_status"] = c.last_status ? py::cast(*c.last_status) : py::none();
    d["restart_in"] = c.restart_in ? py::cast(seconds(*c.restart_in)) : py::none();
    d["status"] = c.status ? py::cast(*c.status) : py::none();
    d["wall"] = seconds(c.wall);
    d["error"] = text_of(c.error);
    return d;
}

py::dict dict_of(const template_info& t) {
    py::dict d;
    d["name"] = text_of(t.name);
    d["command"] = text_of(t.command);
    d["base"] = text_of(t.from);
    d["state"] = std::string(to_string(t.state));
    d["generation"] = t.generation;
    d["warm"] = t.warm_wanted;
    d["last_error"] = t.last_error ? text_of(t.last_error->message()) : py::none();
    d["stderr_tail"] = text_of(t.stderr_tail);
    d["restarts"] = t.restarts;
    d["calls_total"] = t.calls_total;
    d["waiting"] = t.waiting;
    d["retry_in"] = seconds(t.retry_in);
    py::list generations;
    for (const generation_info& g : t.generations) generations.append(dict_of(g));
    d["generations"] = generations;
    d["was_there"] = t.was_there;
    return d;
}

}  // namespace cleanfork::python
