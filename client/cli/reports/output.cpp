#include "client/cli/reports/output.hpp"

#include <cstdio>

namespace cleanfork::cli {

void say(const std::string& line) { std::fprintf(stderr, "cleanfork: %s\n", line.c_str()); }

void print(const std::string& line) {
    std::fprintf(stdout, "%s\n", line.c_str());
    std::fflush(stdout);
}

}  // namespace cleanfork::cli
