// Fails every call once: see usage().
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tests/faults/calls.hpp"
#include "tests/faults/runner.hpp"

namespace cleanfork::faults {

namespace {

struct options {
    bool record = false;
    bool verbose = false;
    std::vector<std::string> patterns;  // parts of "path: role call#k ERRNO"
};

int usage() {
    std::fputs(
        "faults [--record] [--verbose] [PATTERN...]\n"
        "Fails each system call of forkserver, template, child, client and command once, with each\n"
        "errno that is plausible, and kills each process before each. A PATTERN is a part of\n"
        "\"spawn: daemon sendmsg#1 ENOBUFS\"; all patterns must be there.\n",
        stderr);
    return 2;
}

struct tally {
    int combinations = 0, not_reached = 0, findings = 0;
};

class all_faults {
public:
    explicit all_faults(options o) : options_(std::move(o)) {}

    int run() {
        for (const path& p : all_paths()) run_path(p);
        print_table();
        return findings_ == 0 ? 0 : 1;
    }

private:
    [[nodiscard]] bool is_wanted(const std::string& name) const {
        return std::all_of(options_.patterns.begin(), options_.patterns.end(),
                           [&](const std::string& p) { return name.find(p) != std::string::npos; });
    }

    void run_path(const path& p) {
        const std::string prefix = std::string(p.name) + ": ";
        // A pattern that names a path spares the others.
        for (const std::string& each : options_.patterns)
            if (each.ends_with(":") && !prefix.starts_with(each)) return;
        runner_.record(p);  // the first time has its own calls: what is cached later
        const std::vector<watch::seen> calls = runner_.record(p);
        for (const watch::seen& s : calls) {
            if (options_.record) {
                std::printf("%s%s %s#%d (%s)\n", prefix.c_str(),
                            std::string(to_string(s.at.who)).c_str(),
                            name_of_call(s.at.call).c_str(), s.at.k, s.about.c_str());
                continue;
            }
            std::vector<int> errnos = errnos_of(s.at.call);
            errnos.push_back(0);
            for (const int e : errnos) run_one(p, {s.at, e}, s.about);
        }
    }

    void run_one(const path& p, const fault& f, const std::string& about) {
        const std::string name = std::string(p.name) + ": " + to_string(f);
        if (!is_wanted(name)) return;
        const run_report r = runner_.run(p, f);
        tally& t = table_[{p.name, f.at.who}];
        ++t.combinations;
        t.not_reached += !r.injected;
        if (options_.verbose)
            std::printf("%s (%s): %s%s\n", name.c_str(), about.c_str(),
                        r.injected ? "" : "(not reached) ", r.outcome.c_str());
        if (r.finding.empty()) return;
        ++t.findings;
        ++findings_;
        std::printf("FINDING %s (%s): %s\n", name.c_str(), about.c_str(), r.finding.c_str());
        std::fflush(stdout);
    }

    void print_table() {
        tally all;
        for (const auto& [key, t] : table_) {
            std::printf("%-18s %-15s %6d combinations, %d not reached, %d findings\n",
                        std::string(key.first).c_str(), std::string(to_string(key.second)).c_str(),
                        t.combinations, t.not_reached, t.findings);
            all.combinations += t.combinations;
            all.not_reached += t.not_reached;
            all.findings += t.findings;
        }
        std::printf("%-18s %-15s %6d combinations, %d not reached, %d findings\n", "all", "",
                    all.combinations, all.not_reached, all.findings);
    }

    const options options_;
    runner runner_;
    int findings_ = 0;
    std::map<std::pair<std::string_view, role>, tally> table_;
};

}  // namespace
}  // namespace cleanfork::faults

int main(int argc, char** argv) {
    cleanfork::faults::options o;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--record") == 0)
            o.record = true;
        else if (std::strcmp(argv[i], "--verbose") == 0)
            o.verbose = true;
        else if (argv[i][0] == '-')
            return cleanfork::faults::usage();
        else
            o.patterns.emplace_back(argv[i]);
    }
    return cleanfork::faults::all_faults(std::move(o)).run();
}
