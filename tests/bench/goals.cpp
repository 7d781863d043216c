#include "tests/bench/goals.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <stdexcept>

namespace bench {

namespace {

using nlohmann::json;

const json& all() {
    static const json read = [] {
        std::ifstream file(CLEANFORK_BENCH_GOALS);
        if (!file) throw std::runtime_error(CLEANFORK_BENCH_GOALS " cannot be read");
        return json::parse(file);
    }();
    return read;
}

// "<= 0.35", ">= 0.75", "-" where there is none.
std::string limit_of(const json& goal) {
    char text[32];
    for (const auto& [key, sign] : {std::pair("at_most", "<="), std::pair("at_least", ">=")})
        if (goal.contains(key)) {
            std::snprintf(text, sizeof text, "%s %.2f", sign, goal[key].get<double>());
            return text;
        }
    return "-";
}

bool is_reached(const json& goal, double value) {
    return value <= goal.value("at_most", value) && value >= goal.value("at_least", value);
}

}  // namespace

void goals::measured(const std::string& id, double value) {
    if (std::none_of(all().begin(), all().end(), [&](const json& g) { return g["id"] == id; }))
        throw std::logic_error("no such goal: " + id);
    values_[id] = value;
}

json goals::report() const {
    json out = json::array();
    std::printf("\n%-58s %8s %-14s %8s\n", "goals", "", "", "goal");
    for (json row : all()) {
        if (row["part"] != "c++") continue;
        const auto found = values_.find(row["id"].get<std::string>());
        const bool has_goal = row.contains("at_most") || row.contains("at_least");
        std::string told = "not measured", value = "";
        if (found != values_.end()) {
            char text[32];
            std::snprintf(text, sizeof text, "%.2f", found->second);
            value = text;
            row["value"] = found->second;
            row["reached"] = is_reached(row, found->second);
            told = !has_goal ? "" : row["reached"].get<bool>() ? "reached" : "missed";
        }
        std::printf("%-58s %8s %-14s %8s  %s\n", row["work"].get<std::string>().c_str(),
                    value.c_str(), row["than"].get<std::string>().c_str(), limit_of(row).c_str(),
                    told.c_str());
        out.push_back(row);
    }
    std::fflush(stdout);
    return out;
}

}  // namespace bench
