#include "client/src/connection/convert.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include "ipc/base/features.hpp"
#include "ipc/wire/message.hpp"

namespace cleanfork::detail {

exit_status status_of(const v1::Exit& e) {
    switch (e.how_case()) {
        case v1::Exit::kCode: return exit_status::exited(static_cast<int>(e.code()));
        case v1::Exit::kSignal: return exit_status::signaled(e.signal(), e.core_dumped());
        case v1::Exit::kUnknown: return exit_status::unknown(e.unknown());
        case v1::Exit::HOW_NOT_SET: break;
    }
    return exit_status::unknown("the forkserver did not say");
}

namespace {

resource_usage usage_of(const v1::Exit& e) {
    const v1::Usage& u = e.usage();
    resource_usage out;
    out.user = std::chrono::microseconds(u.user_us());
    out.system = std::chrono::microseconds(u.system_us());
    out.max_rss_kib = u.max_rss_kib();
    out.minor_faults = u.minor_faults();
    out.major_faults = u.major_faults();
    out.blocks_in = u.blocks_in();
    out.blocks_out = u.blocks_out();
    out.voluntary_switches = u.voluntary_switches();
    out.involuntary_switches = u.involuntary_switches();
    return out;
}

template_state state_of(v1::TemplateState s) noexcept {
    switch (s) {
        case v1::TEMPLATE_STATE_STARTING: return template_state::starting;
        case v1::TEMPLATE_STATE_READY: return template_state::ready;
        case v1::TEMPLATE_STATE_REFUSED: return template_state::refused;
        case v1::TEMPLATE_STATE_FAILED: return template_state::failed;
        case v1::TEMPLATE_STATE_DRAINING: return template_state::draining;
        default: return template_state::unknown;  // also what a later version has
    }
}

restart_options::policy policy_of(v1::RestartPolicy p) noexcept {
    using policy = restart_options::policy;
    return p == v1::RESTART_POLICY_ALWAYS       ? policy::always
           : p == v1::RESTART_POLICY_ON_FAILURE ? policy::on_failure
                                                : policy::no;
}

generation_info generation_of(const v1::GenerationInfo& g) {
    generation_info out;
    out.generation = g.generation();
    out.state = state_of(g.state());
    out.pid = g.pid();
    out.age = std::chrono::nanoseconds(g.age_ns());
    out.initialization = std::chrono::nanoseconds(g.initialization_ns());
    out.threads = g.threads();
    out.children = g.children();
    out.leased = g.leased();
    out.warm_pids.assign(g.warm_pids().begin(), g.warm_pids().end());
    out.declared_descriptors.assign(g.declared_descriptors().begin(),
                                    g.declared_descriptors().end());
    out.unclean = g.unclean();
    out.stderr_tail = g.stderr_tail();
    return out;
}

histogram histogram_of(const v1::Histogram& h, const v1::Metrics& m) {
    histogram out;
    for (const std::uint64_t b : m.bounds_ns())
        out.bounds.emplace_back(static_cast<std::int64_t>(b));
    out.counts.assign(h.counts().begin(), h.counts().end());
    out.counts.resize(out.bounds.size() + 1);
    out.sum = std::chrono::nanoseconds(h.sum_ns());
    return out;
}

server_metrics metrics_of(const v1::Metrics& m) {
    server_metrics out;
    out.exec = histogram_of(m.exec(), m);
    out.call = histogram_of(m.call(), m);
    out.warm_call = histogram_of(m.warm_call(), m);
    out.queued = histogram_of(m.queued(), m);
    out.turns = histogram_of(m.turns(), m);
    for (const v1::StepFailures& f : m.failures())
        out.failures.emplace_back(static_cast<step>(f.step()), f.count());
    out.leased_calls = m.leased_calls();
    out.exited_zero = m.exited_zero();
    out.exited_other = m.exited_other();
    out.signalled = m.signalled();
    out.unknown = m.unknown();
    return out;
}

}  // namespace

tree_means tree_of(v1::TreeMeans t) noexcept {
    return t == v1::TREE_MEANS_CGROUP ? tree_means::cgroup
           : t == v1::TREE_MEANS_WALK ? tree_means::walk
                                      : tree_means::none;
}

wait_result end_of(const v1::Exit& e) {
    return {status_of(e), usage_of(e), std::chrono::nanoseconds(e.wall_ns()), e.error()};
}

std::vector<child_info> children_of(const v1::ListReply& r) {
    std::vector<child_info> all;
    all.reserve(static_cast<std::size_t>(r.children_size()));
    for (const v1::ChildInfo& c : r.children()) {
        child_info& out = all.emplace_back();
        out.child = c.child();
        out.pid = c.pid();
        out.session = c.session();
        out.command = c.command();
        out.template_name = c.template_name();
        out.age = std::chrono::nanoseconds(c.age_ns());
        out.keep = c.keep();
        out.tree = tree_of(c.tree());
        out.restart = policy_of(c.restart());
        out.restarts = c.restarts();
        if (c.has_last_exit()) out.last_status = status_of(c.last_exit());
        if (c.restart_in_ms() != 0) out.restart_in = std::chrono::milliseconds(c.restart_in_ms());
        out.leased = c.leased();
        if (!c.has_exit()) continue;
        wait_result end = end_of(c.exit());
        out.status = std::move(end.status);
        out.usage = end.usage;
        out.wall = end.wall;
        out.error = std::move(end.error);
    }
    for (const v1::BirthInfo& b : r.births()) {
        child_info& out = all.emplace_back();
        out.pid = b.pid();
        out.session = b.session();
        out.command = b.command();
        out.age = std::chrono::nanoseconds(b.age_ns());
        out.begins_in = static_cast<step>(b.step());
        out.given_up = b.given_up();
    }
    return all;
}

server_stats stats_of(const v1::StatsReply& r) {
    server_stats s;
    s.pid = r.pid();
    s.version = r.version();
    s.instance = r.instance();
    s.uptime = std::chrono::nanoseconds(r.uptime_ns());
    s.sessions = r.sessions();
    s.sessions_total = r.sessions_total();
    s.children = r.children();
    s.statuses = r.statuses();
    s.queued = r.queued();
    s.spawned_total = r.spawned_total();
    s.failed_total = r.failed_total();
    s.exited_total = r.exited_total();
    s.protocol_errors_total = r.protocol_errors_total();
    s.quota_refusals_total = r.quota_refusals_total();
    s.descriptors = r.descriptors();
    s.rss_kib = r.rss_kib();
    s.spawn_time_total = std::chrono::nanoseconds(r.spawn_ns_total());
    s.spawn_time_max = std::chrono::nanoseconds(r.spawn_ns_max());
    s.turn_time_max = std::chrono::nanoseconds(r.turn_ns_max());
    s.metrics = metrics_of(r.metrics());
    return s;
}

event_page events_of(const v1::EventsReply& r) {
    static constexpr std::array<const char*, 4> k_levels{"debug", "info", "warning", "error"};
    event_page page;
    page.next = r.next();
    page.last = r.last();
    page.dropped = r.dropped();
    for (const v1::Event& e : r.events()) {
        event& out = page.events.emplace_back();
        out.time = std::chrono::system_clock::time_point(
            std::chrono::duration_cast<std::chrono::system_clock::duration>(
                std::chrono::nanoseconds(e.time_ns())));
        out.level = k_levels[std::min<std::size_t>(e.level(), k_levels.size() - 1)];
        out.name = e.name();
        for (const v1::EventField& f : e.fields()) {
            if (f.has_text())
                out.fields.emplace_back(f.key(), f.text());
            else
                out.fields.emplace_back(f.key(), f.number());
        }
    }
    return page;
}

server_info server_of(const v1::HelloReply& r) {
    server_info s;
    s.instance = r.instance();
    s.version = r.version();
    s.pid = r.pid();
    s.session = r.session();
    for (const ipc::feature f : ipc::k_all_features)
        for (const int named : r.features())
            if (named == static_cast<int>(f)) s.features.emplace_back(ipc::describe(f).name);
    return s;
}

template_info template_of(const v1::TemplateInfo& t) {
    template_info out;
    out.name = t.name();
    out.command = t.command();
    out.from = t.from();
    out.state = state_of(t.state());
    out.generation = t.generation();
    out.warm_wanted = t.warm_wanted();
    if (t.has_last_error()) out.last_error = ipc::from_wire(t.last_error());
    out.stderr_tail = t.stderr_tail();
    out.restarts = t.restarts();
    out.calls_total = t.calls_total();
    out.waiting = t.waiting();
    out.retry_in = std::chrono::milliseconds(t.retry_in_ms());
    for (const v1::GenerationInfo& g : t.generations()) out.generations.push_back(generation_of(g));
    return out;
}

v1::SignalTarget to_wire(signal_target t) noexcept {
    switch (t) {
        case signal_target::process: return v1::SIGNAL_TARGET_PROCESS;
        case signal_target::group: return v1::SIGNAL_TARGET_GROUP;
        case signal_target::cgroup: return v1::SIGNAL_TARGET_CGROUP;
        case signal_target::tree: return v1::SIGNAL_TARGET_TREE;
    }
    return v1::SIGNAL_TARGET_UNSPECIFIED;
}

std::uint32_t to_wire(std::chrono::milliseconds time) noexcept {
    return static_cast<std::uint32_t>(
        std::clamp<std::int64_t>(time.count(), 0, std::numeric_limits<std::uint32_t>::max()));
}

}  // namespace cleanfork::detail
