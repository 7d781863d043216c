// The JSON of every command. docs/man/cleanfork.1 lists the members; they are
// only ever added to.
#pragma once

#include <chrono>
#include <cleanfork/client.hpp>
#include <nlohmann/json.hpp>
#include <string>

namespace cleanfork::cli {

using json = nlohmann::ordered_json;

// As every time is told.
double seconds(std::chrono::nanoseconds time);

std::string to_string(tree_means by);

json status_json(const exit_status& status);
json usage_json(const resource_usage& usage);
json failure_json(const failure& f);
json child_json(const child_info& child);
json stats_json(const server_stats& stats);
// Reads the memory of its processes.
json template_json(const template_info& t);

// On one line; bytes that are no UTF-8 are replaced, since JSON has no others.
std::string to_line(const json& j);

}  // namespace cleanfork::cli
