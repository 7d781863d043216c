#include <sys/utsname.h>

#include <cstdio>

#include "client/cli/commands/commands.hpp"
#include "client/cli/commands/doctor_checks.hpp"
#include "client/cli/options/arguments.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/reports/json_forms.hpp"
#include "client/cli/reports/output.hpp"
#include "client/cli/reports/text_table.hpp"

namespace cleanfork::cli {

namespace {

struct chapter {
    std::string title;
    std::vector<diagnosis> findings;
};

const char* show(verdict v) {
    switch (v) {
        case verdict::ok: return "ok";
        case verdict::warning: return "warning";
        case verdict::missing: return "missing";
    }
    return "unknown";
}

void print_human(const std::vector<chapter>& chapters) {
    constexpr int k_verdict = 9, k_name = 21;
    for (const chapter& c : chapters) {
        std::printf("%s\n", c.title.c_str());
        for (const diagnosis& f : c.findings) {
            std::printf("  %-*s%-*s%s\n", k_verdict, show(f.how), k_name, f.name.c_str(),
                        printable(f.text).c_str());
            if (!f.remedy.empty())
                std::printf("  %*s-> %s\n", k_verdict + k_name, "", f.remedy.c_str());
        }
    }
}

json to_json(const std::vector<chapter>& chapters, bool spawn_works) {
    json findings = json::array();
    for (const chapter& c : chapters)
        for (const diagnosis& f : c.findings)
            findings.push_back({{"about", c.title},
                                {"name", f.name},
                                {"result", show(f.how)},
                                {"text", f.text},
                                {"remedy", f.remedy}});
    return {{"spawn-works", spawn_works}, {"findings", std::move(findings)}};
}

}  // namespace

int doctor_command(const words& args, const closed_streams&) {
    arguments form({.command = "doctor",
                    .usage = "[OPTION]...",
                    .description = "Checks feature by feature what this kernel and account can do, "
                                   "and says what to do about\nwhat is missing. The exit status is "
                                   "0 when a program can be spawned, else 1.",
                    .examples = "  cleanfork doctor\n"
                                "  cleanfork doctor --json | jq '.findings[] | "
                                "select(.result != \"ok\")'\n",
                    .usage_exit = k_exit_usage});
    bool as_json = false;
    form.flag("--json", as_json, "Print JSON");
    form.parse(args);

    const trial t = try_cleanfork();
    utsname kernel{};
    ::uname(&kernel);
    const std::vector<chapter> chapters = {
        {"cleanfork " CLEANFORK_VERSION, t.findings},
        {std::string("kernel ") + kernel.release, check_kernel(t.features)},
        {"account", check_account()},
    };
    if (as_json)
        print(to_line(to_json(chapters, t.spawn_works)));
    else
        print_human(chapters);
    return t.spawn_works ? k_exit_ok : k_exit_error;
}

}  // namespace cleanfork::cli
