// Medians of contenders that take turns in one run: the machine's mood is shared.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bench {

using nanoseconds = std::chrono::nanoseconds;

// One spawn of a contender; what it returns is what is measured (wall or CPU time).
struct contender {
    std::string name;
    std::function<nanoseconds()> once;
    std::size_t every = 1;  // takes part in each n-th round only: the slow ones
};

struct figure {
    std::string name;
    double median_us = 0, p10_us = 0, p99_us = 0, p999_us = 0;
    std::size_t runs = 0;
};

inline nanoseconds timed(const std::function<void()>& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::steady_clock::now() - begin;
}

// Sorts what is a contender's.
inline figure summary(std::string name, std::vector<double> us) {
    std::sort(us.begin(), us.end());
    const auto at = [&](double q) {
        return us.at(static_cast<std::size_t>(q * static_cast<double>(us.size() - 1)));
    };
    return {std::move(name), at(0.5), at(0.1), at(0.99), at(0.999), us.size()};
}

inline const figure& named(const std::vector<figure>& figures, std::string_view name) {
    const auto found = std::find_if(figures.begin(), figures.end(),
                                    [&](const figure& f) { return f.name == name; });
    if (found == figures.end()) throw std::logic_error("no figure " + std::string(name));
    return *found;
}

// How the medians of two compare.
inline double ratio(const std::vector<figure>& figures, std::string_view ours,
                    std::string_view theirs) {
    return named(figures, ours).median_us / named(figures, theirs).median_us;
}

// Prints them too.
inline nlohmann::json to_json(const std::vector<figure>& figures, const std::string& base) {
    nlohmann::json rows = nlohmann::json::array();
    for (const figure& f : figures) {
        const double than = f.median_us / named(figures, base).median_us;
        rows.push_back({{"contender", f.name},
                        {"median_us", f.median_us},
                        {"p10_us", f.p10_us},
                        {"p99_us", f.p99_us},
                        {"p999_us", f.p999_us},
                        {"runs", f.runs},
                        {"ratio_to", base},
                        {"ratio", than}});
        std::printf("  %-34s %10.1f us   p99 %9.1f   p99.9 %9.1f   %7.3f x %s\n", f.name.c_str(),
                    f.median_us, f.p99_us, f.p999_us, than, base.c_str());
    }
    std::fflush(stdout);
    return rows;
}

// A B C A B C ..., after a few rounds that do not count.
inline std::vector<figure> alternate(const std::vector<contender>& contenders, std::size_t rounds) {
    std::vector<std::vector<double>> samples(contenders.size());
    const std::size_t warm_up = std::max<std::size_t>(1, rounds / 20);
    for (std::size_t round = 0; round < rounds + warm_up; ++round)
        for (std::size_t i = 0; i < contenders.size(); ++i) {
            if (round % contenders[i].every != 0) continue;
            const double us = static_cast<double>(contenders[i].once().count()) / 1000.0;
            if (round >= warm_up || contenders[i].every > 1) samples[i].push_back(us);
        }
    std::vector<figure> figures;
    for (std::size_t i = 0; i < contenders.size(); ++i)
        figures.push_back(summary(contenders[i].name, std::move(samples[i])));
    return figures;
}

}  // namespace bench
