// What the subcommands of `cleanfork template` share.
#pragma once

#include <cleanfork/client.hpp>
#include <functional>
#include <string>

#include "client/cli/commands/commands.hpp"
#include "client/cli/options/arguments.hpp"

namespace cleanfork::cli {

int template_add_command(const words& args, const closed_streams& streams);

// Runs `act` with the forkserver; what it throws is told, as JSON too if that was asked for,
// and is exit status 1.
int with_server(const server_arguments& server, const std::function<int(const client&)>& act);

// Tells how a generation was built; of one that failed also what it wrote.
int tell_built(const client& joined, const server_arguments& server, const std::string& name,
               const result<template_info>& built);

}  // namespace cleanfork::cli
