// audit: would forking from a process be safe, and if not, why?
#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <vector>

#include "client/cli/arguments.hpp"
#include "client/cli/commands.hpp"
#include "client/cli/exit_codes.hpp"
#include "client/cli/json_forms.hpp"
#include "client/cli/table.hpp"
#include "ipc/audit.hpp"

namespace cleanfork::cli {

namespace {

constexpr int k_exit_not_safe = k_exit_error;
constexpr int k_exit_not_audited = k_exit_usage;

// The process that PID on the command line means. Names of templates are to be
// resolved here, by their forkserver.
parsed<pid_t> process_of(const std::string& text) {
    const auto number = parse_integer(text, 1, std::numeric_limits<pid_t>::max());
    if (!number) return bad_value{"\"" + printable(text) + "\" is not the pid of a process"};
    return static_cast<pid_t>(*number);
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

json to_json(const ipc::audit_report& report) {
    json findings = json::array();
    for (const ipc::finding& f : report.findings) {
        json one = {{"kind", ipc::to_string(f.kind)},
                    {"name", f.name},
                    {"text", f.what},
                    {"consequence", ipc::consequence(f.kind)},
                    {"remedy", ipc::remedy(f.kind)}};
        if (f.number >= 0) one["number"] = f.number;
        findings.push_back(std::move(one));
    }
    return {{"pid", report.pid},         {"name", report.name},
            {"safe", report.safe()},     {"summary", ipc::summary(report)},
            {"threads", report.threads}, {"descriptors", report.descriptors},
            {"findings", findings}};
}

}  // namespace

int audit_command(const words& args) {
    arguments form({.command = "audit",
                    .usage = "[OPTION]... PID",
                    .description = "Tells whether forking from a process would be safe, and if "
                                   "not, why: threads, sockets,\nepolls, timers, devices, locks "
                                   "and more. The process is not disturbed. The exit status\nis 0 "
                                   "when it is safe, 1 when it is not, and 2 when it cannot be "
                                   "looked at.",
                    .examples = "  cleanfork audit 4711\n"
                                "  cleanfork audit --json 4711 | jq -r .summary\n",
                    .usage_exit = k_exit_usage});
    bool as_json = false;
    pid_t pid = 0;
    form.value(
            "PID", "", process_of, [&pid](pid_t p) { pid = p; }, "The process")
        ->required();
    form.flag("--json", as_json, "Print JSON");
    if (const auto code = form.parse(args)) return *code;

    const result<ipc::audit_report> report = ipc::audit(pid);
    if (!report) {
        say(report.error().message());
        return k_exit_not_audited;
    }
    if (as_json)
        print(to_line(to_json(*report)));
    else
        print_human(*report);
    return report->safe() ? k_exit_ok : k_exit_not_safe;
}

}  // namespace cleanfork::cli
