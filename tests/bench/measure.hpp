// Medians of contenders that take turns in one run: the machine's mood is shared.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
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
    double median_us = 0, p10_us = 0, p90_us = 0;
    std::size_t runs = 0;
};

inline nanoseconds timed(const std::function<void()>& f) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    return std::chrono::steady_clock::now() - begin;
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
    for (std::size_t i = 0; i < contenders.size(); ++i) {
        auto& s = samples[i];
        std::sort(s.begin(), s.end());
        const auto at = [&](double q) {
            return s.at(static_cast<std::size_t>(q * static_cast<double>(s.size() - 1)));
        };
        figures.push_back({contenders[i].name, at(0.5), at(0.1), at(0.9), s.size()});
    }
    return figures;
}

}  // namespace bench
