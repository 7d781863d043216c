// The subcommands: each takes its arguments without its own name and returns the
// code to exit with.
#pragma once

#include <string>
#include <vector>

namespace cleanfork::cli {

using words = std::vector<std::string>;

struct closed_streams;

int spawn_command(const words& args, const closed_streams& streams);
int call_command(const words& args, const closed_streams& streams);
int template_command(const words& args, const closed_streams& streams);
int serve_command(const words& args);
int ps_command(const words& args);
int kill_command(const words& args);
int wait_command(const words& args);
int stats_command(const words& args);
int shutdown_command(const words& args);
int audit_command(const words& args);
int doctor_command(const words& args);

}  // namespace cleanfork::cli
