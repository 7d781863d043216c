// The commands and how they are found. Each takes its arguments without its own name and
// returns the code to exit with; what it throws is told by told().
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/cli/options/standard_streams.hpp"

namespace cleanfork::cli {

using words = std::vector<std::string>;

struct command {
    std::string_view name, summary;
    int (*run)(const words& args, const closed_streams& streams);
};

using command_table = std::span<const command>;

// Of that name; null when there is none.
const command* find(command_table commands, std::string_view name);
// A line for each, for a help text.
void print_summaries(command_table commands);

int spawn_command(const words& args, const closed_streams& streams);
int call_command(const words& args, const closed_streams& streams);
int template_command(const words& args, const closed_streams& streams);
int serve_command(const words& args, const closed_streams& streams);
int ps_command(const words& args, const closed_streams& streams);
int kill_command(const words& args, const closed_streams& streams);
int wait_command(const words& args, const closed_streams& streams);
int stats_command(const words& args, const closed_streams& streams);
int events_command(const words& args, const closed_streams& streams);
int metrics_command(const words& args, const closed_streams& streams);
int shutdown_command(const words& args, const closed_streams& streams);
int audit_command(const words& args, const closed_streams& streams);
int doctor_command(const words& args, const closed_streams& streams);

}  // namespace cleanfork::cli
