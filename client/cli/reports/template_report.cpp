#include "client/cli/reports/template_report.hpp"

#include <algorithm>

#include "client/cli/options/values.hpp"
#include "client/cli/reports/text_table.hpp"

namespace cleanfork::cli {

namespace {

std::string show_kib(std::uint64_t kib) {
    if (kib < 10 * 1024) return std::to_string(kib) + "K";
    if (kib < 10 * 1024 * 1024) return std::to_string(kib / 1024) + "M";
    return std::to_string(kib / 1024 / 1024) + "G";
}

std::string show(const std::optional<process_memory>& m) {
    if (!m) return "unknown";
    return show_kib(m->rss_kib) + " resident, " + show_kib(m->pss_kib) + " proportional, " +
           show_kib(m->private_dirty_kib) + " private and dirty";
}

std::string warm_of(const template_info& t, const generation_info* g) {
    if (t.warm_wanted == 0) return "-";
    return std::to_string(g != nullptr ? g->warm_pids.size() : 0) + "/" +
           std::to_string(t.warm_wanted);
}

row row_of(const template_info& t) {
    const generation_info* const g = t.current();
    const auto memory = g != nullptr ? g->memory() : std::nullopt;
    const auto if_any = [&](const std::string& text) { return g != nullptr ? text : "-"; };
    return {printable(t.name),
            std::string(to_string(t.state)),
            t.generation != 0 ? std::to_string(t.generation) : "-",
            if_any(g != nullptr ? std::to_string(g->pid) : ""),
            warm_of(t, g),
            if_any(g != nullptr ? std::to_string(g->children) : ""),
            if_any(g != nullptr ? std::to_string(g->threads) : ""),
            memory ? show_kib(memory->rss_kib) : "-",
            memory ? show_kib(memory->pss_kib) : "-",
            if_any(g != nullptr ? show_age(g->age) : ""),
            printable((t.from.empty() ? "" : "from ") + t.command)};
}

void add(std::string& text, const std::string& key, const std::string& value) {
    text += key + ": " + value + "\n";
}

void add_number(std::string& text, const std::string& key, std::uint64_t value) {
    add(text, key, std::to_string(value));
}

// The end of what was written, indented, below its key.
void add_messages(std::string& text, const std::string& key, std::string_view messages) {
    if (messages.empty()) return;
    text += key + ":\n";
    while (!messages.empty()) {
        const std::size_t end = std::min(messages.find('\n'), messages.size());
        text += "    " + printable_lines(std::string(messages.substr(0, end))) + "\n";
        messages.remove_prefix(std::min(end + 1, messages.size()));
    }
}

void add_generation(std::string& text, const generation_info& g, const std::string& elsewhere) {
    text += "generation " + std::to_string(g.generation) + ":\n";
    const auto line = [&text](const std::string& key, const std::string& value) {
        add(text, "  " + key, value);
    };
    line("state", std::string(to_string(g.state)));
    line("pid", std::to_string(g.pid));
    line("age", show_age(g.age));
    line("initialization", show_duration(g.initialization));
    line("threads", std::to_string(g.threads));
    line("children", std::to_string(g.children));
    if (g.leased != 0) line("leased children", std::to_string(g.leased));
    line("memory", show(g.memory()));
    line("warm children", std::to_string(g.warm_pids.size()));
    if (!g.warm_pids.empty()) line("warm memory", show(g.warm_memory()));
    if (!g.unclean.empty()) line("unclean, but tolerated", printable(g.unclean));
    if (g.stderr_tail != elsewhere) add_messages(text, "  standard error", g.stderr_tail);
}

}  // namespace

std::string template_table(const std::vector<template_info>& templates) {
    std::vector<row> rows{{"NAME", "STATE", "GEN", "PID", "WARM", "CHILDREN", "THREADS", "RSS",
                           "PSS", "AGE", "COMMAND"}};
    for (const template_info& t : templates) rows.push_back(row_of(t));
    return table(rows, {2, 3, 4, 5, 6, 7, 8}, output_width());
}

std::string template_details(const template_info& t) {
    std::string text;
    add(text, "name", printable(t.name));
    add(text, "state", std::string(to_string(t.state)));
    add(text, "command", printable(t.command));
    if (!t.from.empty()) add(text, "derived from", printable(t.from));
    add_number(text, "generation", t.generation);
    add_number(text, "warm children wanted", t.warm_wanted);
    add_number(text, "calls in all", t.calls_total);
    add_number(text, "calls that wait", t.waiting);
    add_number(text, "restarts", t.restarts);
    if (t.retry_in.count() != 0) add(text, "next start in", show_duration(t.retry_in));
    if (t.last_error) add(text, "last error", printable(t.last_error->message()));
    add_messages(text, "standard error", t.stderr_tail);
    for (const generation_info& g : t.generations) add_generation(text, g, t.stderr_tail);
    return text;
}

std::string template_summary(const template_info& t) {
    const generation_info* const g = t.current();
    std::string line = printable(t.name) + " " + std::string(to_string(t.state));
    if (t.was_there) line += ", was there";
    if (g == nullptr) return line;
    line += ", generation " + std::to_string(g->generation) + ", pid " + std::to_string(g->pid);
    if (t.state == template_state::ready)
        line += ", initialized in " + show_duration(g->initialization);
    if (!g->unclean.empty()) line += ", unclean: " + printable(g->unclean);
    return line;
}

}  // namespace cleanfork::cli
