// What the subcommands of `cleanfork template` share.
#pragma once

#include <boost/asio/any_completion_handler.hpp>
#include <cleanfork/client.hpp>
#include <exception>
#include <functional>
#include <string>

#include "client/cli/commands/commands.hpp"
#include "client/cli/options/arguments.hpp"

namespace cleanfork::cli {

int template_add_command(const words& args, const closed_streams& streams);

// Runs `act` with the forkserver; what it throws is told, as JSON too if that was asked for,
// and is exit status 1.
int with_server(const server_arguments& server, const std::function<int(const client&)>& act);

// Begins to build a generation, and waits until that is told.
using build = std::function<void(
    const client&, boost::asio::any_completion_handler<void(std::exception_ptr, template_info)>)>;
// Builds it and tells how that went; of one that failed also what it wrote.
int tell_build(const server_arguments& server, const std::string& name, const build& begin);

}  // namespace cleanfork::cli
