#include "client/cli/commands/commands.hpp"

#include <algorithm>
#include <cstdio>

namespace cleanfork::cli {

const command* find(command_table commands, std::string_view name) {
    const auto found = std::find_if(commands.begin(), commands.end(),
                                    [name](const command& c) { return c.name == name; });
    return found != commands.end() ? &*found : nullptr;
}

void print_summaries(command_table commands) {
    for (const command& c : commands)
        std::printf("  %-10.*s%.*s\n", static_cast<int>(c.name.size()), c.name.data(),
                    static_cast<int>(c.summary.size()), c.summary.data());
}

}  // namespace cleanfork::cli
