// Fails every call once: see usage().
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/faults/calls.hpp"
#include "tests/faults/found.hpp"
#include "tests/faults/runner.hpp"

namespace cleanfork::faults {

namespace {

struct options {
    bool sample = false;
    bool record = false;
    bool verbose = false;
    std::vector<std::string> patterns;  // parts of "path: role call#k ERRNO"
};

int usage() {
    std::fputs(
        "faults [--sample] [--record] [--verbose] [PATTERN...]\n"
        "Fails each system call of forkserver, template, child, client and command once, with "
        "each\n"
        "errno that is plausible, kills each process before each, and fails each allocation of "
        "the\n"
        "forkserver. A PATTERN is a part of \"spawn: daemon sendmsg#1 ENOBUFS\"; all patterns must "
        "be\n"
        "there, and one that ends with a colon is a path.\n"
        "--sample: some of them, always the same; --record: only tells the calls of each path;\n"
        "--verbose: also tells what came of each.\n",
        stderr);
    return 2;
}

struct tally {
    int calls = 0, errnos = 0, kills = 0, allocations = 0;
    int not_reached = 0, findings = 0;
    tally& operator+=(const tally& t) {
        calls += t.calls;
        errnos += t.errnos;
        kills += t.kills;
        allocations += t.allocations;
        not_reached += t.not_reached;
        findings += t.findings;
        return *this;
    }
};

// FNV-1a.
std::uint32_t hash_of(std::string_view text) {
    std::uint32_t h = 2166136261U;
    for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 16777619U;
    return h;
}

class all_faults {
public:
    explicit all_faults(options o) : options_(std::move(o)) {}

    int run() {
        for (const path& p : all_paths()) run_path(p);
        if (!options_.record) print_table();
        return all_.findings == 0 ? 0 : 1;
    }

private:
    [[nodiscard]] bool is_wanted(const std::string& name) const {
        if (options_.sample) {
            const auto& found = all_found();
            // Which allocation has which number differs from run to run.
            const bool is_fixed = name.find("allocation#") == std::string::npos;
            if (std::find(found.begin(), found.end(), name) == found.end() &&
                (!is_fixed || hash_of(name) % k_others != 0))
                return false;
        }
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
        tally t;
        std::map<role, int> last;
        for (const watch::seen& s : calls) {
            // Of a loop over a call that cannot fail, its process is killed before the first.
            const bool again = std::exchange(last[s.at.who], s.at.call) == s.at.call;
            t.calls += s.at.call != k_allocation;
            if (options_.record) {
                std::printf("%s%s %s#%d (%s)\n", prefix.c_str(),
                            std::string(to_string(s.at.who)).c_str(),
                            name_of_call(s.at.call).c_str(), s.at.k, s.about.c_str());
                continue;
            }
            std::vector<int> errnos = errnos_of(s.at.call, s.args);
            if (s.at.call != k_allocation && !(again && errnos.empty())) errnos.push_back(0);
            for (const int e : errnos) run_one(p, {s.at, e}, s.about, t);
        }
        if (t.errnos + t.kills + t.allocations != 0) table_.emplace_back(p.name, t);
        all_ += t;
    }

    void run_one(const path& p, const fault& f, const std::string& about, tally& t) {
        const std::string name = std::string(p.name) + ": " + to_string(f);
        if (!is_wanted(name)) return;
        run_report r = runner_.run(p, f);
        if (r.finding.empty()) r.finding = runner_.lost_memory(p, f);
        ++(f.at.call == k_allocation ? t.allocations : f.error_number == 0 ? t.kills : t.errnos);
        t.not_reached += !r.injected;
        if (options_.verbose)
            std::printf("%s (%s): %s%s\n", name.c_str(), about.c_str(),
                        r.injected ? "" : "(not reached) ", r.outcome.c_str());
        if (r.finding.empty()) return;
        ++t.findings;
        std::printf("FINDING %s (%s): %s\n", name.c_str(), about.c_str(), r.finding.c_str());
        if (options_.verbose) std::printf("%s", runner_.log().c_str());
        std::fflush(stdout);
    }

    static void print_row(std::string_view name, const tally& t) {
        std::printf("| %-16.*s | %5d | %6d | %6d | %11d | %11d | %8d |\n",
                    static_cast<int>(name.size()), name.data(), t.calls, t.errnos, t.kills,
                    t.allocations, t.not_reached, t.findings);
    }

    void print_table() const {
        std::puts(
            "| path             | calls | errnos | killed | allocations | not reached | findings "
            "|\n"
            "|------------------|-------|--------|--------|-------------|-------------|----------"
            "|");
        for (const auto& [name, t] : table_) print_row(name, t);
        print_row("all", all_);
    }

    const options options_;
    runner runner_;
    tally all_;
    std::vector<std::pair<std::string_view, tally>> table_;
};

}  // namespace
}  // namespace cleanfork::faults

int main(int argc, char** argv) {
    cleanfork::faults::options o;
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--sample") == 0)
            o.sample = true;
        else if (std::strcmp(argv[i], "--record") == 0)
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
