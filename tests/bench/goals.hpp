// What was measured beside what it is to be, from goals.json. A goal that is missed fails nothing:
// times are of the machine and of its hour. What must not get more is counted: test_counts.py.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace bench {

class goals {
public:
    // Throws when an `id` is in no line of the file.
    void measured(const std::string& id, double value);
    // Prints a line for each goal of the C++ part, and gives the same for bench.json.
    [[nodiscard]] nlohmann::json report() const;

private:
    std::map<std::string, double> values_;
};

}  // namespace bench
