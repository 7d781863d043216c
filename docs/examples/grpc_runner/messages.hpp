// Between the service's messages and cleanfork's types.
#pragma once

#include <cleanfork/client.hpp>

#include "runner.pb.h"

// A program with pipes for its three streams, in a process group of its own.
cleanfork::spawn_options options_of(const runner::v1::Start& start);

runner::v1::RunReply started_reply(const cleanfork::process& child);
runner::v1::RunReply finished_reply(const cleanfork::process& child,
                                    const cleanfork::exit_status& status);
runner::v1::RunReply failed_reply(const cleanfork::failure& why);
