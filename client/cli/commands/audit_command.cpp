// audit: would forking from a process be safe, and if not, why?
#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <vector>

#include "client/cli/commands/commands.hpp"
#include "client/cli/commands/errors.hpp"
#include "client/cli/commands/servers.hpp"
#include "client/cli/options/arguments.hpp"
#include "client/cli/options/command_error.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/reports/json_forms.hpp"
#include "client/cli/reports/text_table.hpp"
#include "ipc/audit/audit.hpp"

namespace cleanfork::cli {

namespace {

constexpr int k_exit_not_safe = k_exit_error;
constexpr int k_exit_not_audited = k_exit_usage;

// Of the wrong kind too: what is a number is meant as one.
bool is_number(const std::string& text) {
    return text.find_first_not_of("-0123456789") == std::string::npos;
}

struct audited {
    pid_t pid = 0;
    // Of a template: what it has as such.
    std::vector<pid_t> children{};
    std::vector<int> descriptors{};
};

// Those of calls, those that are warm, and the templates derived from it.
std::vector<pid_t> children_of(const client& joined, const template_info& t) {
    std::vector<pid_t> all;
    for (const child_info& child : joined.list(k_patience))
        if (child.template_name == t.name) all.push_back(child.pid);
    for (const generation_info& g : t.generations)
        all.insert(all.end(), g.warm_pids.begin(), g.warm_pids.end());
    for (const template_info& other : joined.templates(k_patience))
        if (other.from == t.name)
            for (const generation_info& g : other.generations) all.push_back(g.pid);
    return all;
}

audited process_of_template(const std::string& name, const std::optional<std::string>& socket) {
    const client joined = join_server(socket);
    const template_info t = joined.template_info(name, k_patience);
    const generation_info* const g = t.current();
    if (g != nullptr && g->pid > 0)
        return {g->pid, children_of(joined, t), g->declared_descriptors};
    throw command_error("template " + printable(name) + " is " + std::string(to_string(t.state)) +
                            ": it has no process",
                        k_exit_not_audited);
}

void print_human(const ipc::audit_report& report) {
    constexpr int k_kind = 18;
    std::printf("PID %d (%s): %s\n", report.pid, printable(report.name).c_str(),
                report.safe() ? "safe to fork from" : "not safe to fork from");
    const auto& all = report.findings;
    for (std::size_t i = 0; i < all.size(); ++i) {
        const std::string kind(ipc::to_string(all[i].kind));
        std::printf("  %-*s%s\n", k_kind, kind.c_str(), printable(all[i].what).c_str());
        if (i + 1 < all.size() && all[i + 1].kind == all[i].kind) continue;
        for (const std::string_view hint :
             {ipc::consequence(all[i].kind), ipc::remedy(all[i].kind)})
            std::printf("  %*s-> %.*s\n", k_kind, "", static_cast<int>(hint.size()), hint.data());
    }
}

// No finding: a fork does not break them.
void print_positions(const ipc::audit_report& report) {
    for (const ipc::shared_position& p : report.positions)
        std::printf("  %-18s%d %s, at %llu\n", "shared position", p.descriptor,
                    printable(p.path).c_str(), static_cast<unsigned long long>(p.position));
    if (report.positions.empty()) return;
    std::printf(
        "  %18s-> no hazard, but reads and writes of parent and child move one position; "
        "a child of a template has its own\n",
        "");
}

void print_all(const ipc::audit_report& report) {
    print_human(report);
    print_positions(report);
}

json to_json(const ipc::audit_report& report) {
    json findings = json::array();
    for (const ipc::finding& f : report.findings) {
        json one = {{"kind", ipc::to_string(f.kind)},
                    {"name", f.name},
                    {"text", f.what},
                    {"consequence", ipc::consequence(f.kind)},
                    {"remedy", ipc::remedy(f.kind)}};
        if (f.number >= 0) one["number"] = f.number;
        if (!f.library.empty()) one["library"] = f.library;
        findings.push_back(std::move(one));
    }
    json positions = json::array();
    for (const ipc::shared_position& p : report.positions)
        positions.push_back(
            {{"descriptor", p.descriptor}, {"path", p.path}, {"position", p.position}});
    return {{"pid", report.pid},         {"name", report.name},
            {"safe", report.safe()},     {"summary", ipc::summary(report)},
            {"threads", report.threads}, {"descriptors", report.descriptors},
            {"findings", findings},      {"shared_positions", positions}};
}

int report_on(const audited& who, const server_arguments& how) {
    const result<ipc::audit_report> report = ipc::audit(
        who.pid, {.allowed_descriptors = who.descriptors, .allowed_children = who.children});
    if (!report) throw command_error(report.error().message(), k_exit_not_audited);
    if (how.json)
        print(to_line(to_json(*report)));
    else
        print_all(*report);
    return report->safe() ? k_exit_ok : k_exit_not_safe;
}

}  // namespace

int audit_command(const words& args, const closed_streams&) {
    arguments form({.command = "audit",
                    .usage = "[OPTION]... PID|TEMPLATE",
                    .description = "Tells whether forking from a process would be safe, and if "
                                   "not, why: threads, sockets,\nepolls, timers, devices, locks "
                                   "and more. The process is not disturbed. The exit status\nis 0 "
                                   "when it is safe, 1 when it is not, and 2 when it cannot be "
                                   "looked at.",
                    .examples = "  cleanfork audit 4711\n"
                                "  cleanfork audit thumbnails\n"
                                "  cleanfork audit --json 4711 | jq -r .summary\n",
                    .usage_exit = k_exit_usage});
    server_arguments server;
    std::string text;
    form.positional(
        "PID|TEMPLATE", as_is, [&text](std::string given) { text = std::move(given); },
        "The process, by its number or as a template's");
    server.add_to(form);
    form.parse(args);

    const auto tell = [&](const failure& f) {
        say(printable(text) + " is no pid, and as a template: " + explain(f, server.socket));
    };
    return told({.tell = tell, .code = [](const failure&) { return k_exit_not_audited; }}, [&] {
        if (!is_number(text)) return report_on(process_of_template(text, server.socket), server);
        const auto pid = parse_integer(text, 1, std::numeric_limits<pid_t>::max());
        if (!pid) form.refuse("\"" + text + "\" is not the pid of a process");
        return report_on({static_cast<pid_t>(*pid)}, server);
    });
}

}  // namespace cleanfork::cli
