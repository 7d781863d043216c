#include "client/cli/reports/open_metrics.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <initializer_list>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

namespace cleanfork::cli {

namespace {

double in_seconds(std::chrono::nanoseconds t) { return std::chrono::duration<double>(t).count(); }

struct label {
    std::string_view name;
    std::string value;
};
using labels = std::vector<label>;

class text_of_metrics {
public:
    void family(std::string_view name, std::string_view type, std::string_view unit,
                std::string_view help) {
        name_ = "cleanfork_" + std::string(name);
        line("TYPE", type);
        if (!unit.empty()) line("UNIT", unit);
        line("HELP", help);
    }
    template <class Number>
    void sample(std::string_view suffix, const labels& of, Number value) {
        text_.append(name_).append(suffix);
        char before = '{';
        for (const label& l : of) {
            text_.append(1, std::exchange(before, ',')).append(l.name).append("=\"");
            escape(l.value);
            text_ += '"';
        }
        if (!of.empty()) text_ += '}';
        text_.append(" ").append(number(value)).append("\n");
    }
    // Those of one family have a label that tells them apart.
    void histogram_samples(const histogram& h, const labels& of) {
        std::uint64_t so_far = 0;
        labels bucket = of;
        bucket.push_back({"le", ""});
        for (std::size_t i = 0; i < h.bounds.size(); ++i) {
            so_far += h.counts[i];
            bucket.back().value = number(in_seconds(h.bounds[i]));
            sample("_bucket", bucket, so_far);
        }
        bucket.back().value = "+Inf";
        sample("_bucket", bucket, h.count());
        sample("_sum", of, in_seconds(h.sum));
        sample("_count", of, h.count());
    }
    void gauge(std::string_view name, std::string_view unit, std::string_view help, auto value) {
        family(name, "gauge", unit, help);
        sample("", {}, value);
    }
    void counter(std::string_view name, std::string_view help, std::uint64_t value) {
        family(name, "counter", "", help);
        sample("_total", {}, value);
    }
    std::string end() { return std::move(text_) + "# EOF\n"; }

private:
    void line(std::string_view what, std::string_view text) {
        text_.append("# ").append(what).append(" ").append(name_).append(" ").append(text).append(
            "\n");
    }
    template <class Number>
    static std::string number(Number value) {
        std::array<char, 32> digits;  // the shortest that reads back as the same
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
        return {digits.data(), end};
    }
    void escape(std::string_view value) {
        for (const char c : value) {
            if (c == '\n') {
                text_ += "\\n";
                continue;
            }
            if (c == '"' || c == '\\') text_ += '\\';
            text_ += c;
        }
    }

    std::string name_, text_;
};

void add_sessions(text_of_metrics& t, const server_stats& s) {
    t.family("build", "info", "", "The version of the forkserver");
    t.sample("_info", {{"version", s.version}}, 1);
    t.gauge("uptime_seconds", "seconds", "Since the start of the forkserver", in_seconds(s.uptime));
    t.gauge("sessions", "", "Clients that are connected", s.sessions);
    t.counter("sessions_opened", "Clients that have connected", s.sessions_total);
    t.counter("protocol_errors", "Sessions that were ended for what their client sent",
              s.protocol_errors_total);
    t.counter("quota_refusals", "Requests and sessions over a quota", s.quota_refusals_total);
}

void add_children(text_of_metrics& t, const server_stats& s) {
    const server_metrics& m = s.metrics;
    t.gauge("children", "", "Children that run", s.children);
    t.gauge("exit_statuses", "", "Statuses that nobody has acknowledged yet", s.statuses);
    t.gauge("queued_spawns", "", "Requests whose turn has not come", s.queued);
    t.counter("spawns", "Children that have begun", s.spawned_total);
    t.counter("leased_calls", "Calls that their clients sent to a child themselves",
              m.leased_calls);
    t.family("spawn_failures", "counter", "", "Requests that failed, by step (docs/errors.md)");
    for (const auto& [at, count] : m.failures)
        t.sample("_total", {{"step", std::string(to_string(at))}}, count);
    t.family("exits", "counter", "", "Children that have ended, by how");
    t.sample("_total", {{"how", "zero"}}, m.exited_zero);
    t.sample("_total", {{"how", "nonzero"}}, m.exited_other);
    t.sample("_total", {{"how", "signal"}}, m.signalled);
    t.sample("_total", {{"how", "unknown"}}, m.unknown);
}

void add_times(text_of_metrics& t, const server_stats& s) {
    const server_metrics& m = s.metrics;
    t.family("spawn_duration_seconds", "histogram", "seconds",
             "From the arrival of a request to the answer that its child has begun");
    t.histogram_samples(m.exec, {{"kind", "exec"}});
    t.histogram_samples(m.call, {{"kind", "call"}});
    t.histogram_samples(m.warm_call, {{"kind", "warm_call"}});
    t.family("queue_duration_seconds", "histogram", "seconds", "Until the turn of a request came");
    t.histogram_samples(m.queued, {});
    t.family("loop_turn_duration_seconds", "histogram", "seconds",
             "Turns of the forkserver's loop: what one request keeps all others waiting");
    t.histogram_samples(m.turns, {});
    t.gauge("loop_turn_max_seconds", "seconds", "The longest of them", in_seconds(s.turn_time_max));
    t.gauge("open_descriptors", "", "Descriptors of the forkserver", s.descriptors);
    t.gauge("resident_memory_bytes", "bytes", "Memory of the forkserver", s.rss_kib * 1024);
}

template <class Of>
void of_each(text_of_metrics& t, std::span<const template_info> all, std::string_view suffix,
             Of of) {
    for (const template_info& each : all)
        t.sample(suffix, {{"template", each.name}}, std::uint64_t{of(each)});
}

std::uint64_t children_of(const template_info& t) {
    std::uint64_t all = 0;
    for (const generation_info& g : t.generations) all += g.children;
    return all;
}

void add_templates(text_of_metrics& t, const std::vector<template_info>& templates) {
    t.gauge("templates", "", "Templates, also those without lines of their own", templates.size());
    const std::span some(templates.data(), std::min(templates.size(), k_metered_templates));
    t.family("template_ready", "gauge", "", "1: calls run");
    of_each(t, some, "", [](const auto& i) { return i.state == template_state::ready; });
    t.family("template_generation", "gauge", "", "The process that calls go to, by number");
    of_each(t, some, "", [](const auto& i) { return i.generation; });
    t.family("template_restarts", "counter", "", "Starts after the end of its process");
    of_each(t, some, "_total", [](const auto& i) { return i.restarts; });
    t.family("template_calls", "counter", "", "Calls that were asked for");
    of_each(t, some, "_total", [](const auto& i) { return i.calls_total; });
    t.family("template_waiting_calls", "gauge", "", "Calls that wait for it to be ready");
    of_each(t, some, "", [](const auto& i) { return i.waiting; });
    t.family("template_children", "gauge", "", "Its children that run");
    of_each(t, some, "", children_of);
    t.family("template_warm_children", "gauge", "", "Its children that wait for a call");
    of_each(t, some, "", [](const auto& i) {
        return i.current() != nullptr ? i.current()->warm_pids.size() : 0;
    });
    t.family("template_warm_children_wanted", "gauge", "", "How many are to wait");
    of_each(t, some, "", [](const auto& i) { return i.warm_wanted; });
}

void add_up(text_of_metrics& t, bool answers) {
    t.gauge("up", "", "1: the forkserver answers", answers ? 1 : 0);
}

}  // namespace

std::string open_metrics(const server_stats& s, const std::vector<template_info>& templates) {
    text_of_metrics t;
    add_up(t, true);
    add_sessions(t, s);
    add_children(t, s);
    add_times(t, s);
    add_templates(t, templates);
    return t.end();
}

std::string open_metrics_of_none() {
    text_of_metrics t;
    add_up(t, false);
    return t.end();
}

}  // namespace cleanfork::cli
