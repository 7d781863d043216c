// The ways to start a program that are compared: the bare kernel, posix_spawn,
// Boost.Process v2, plain fork, and cleanfork.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cleanfork/client.hpp>
#include <string>

namespace bench {

// Each starts `program` without arguments and returns once its exit status is
// known; anything but exit code 0 throws.
void vfork_and_exec(const std::string& program);  // the floor: no libc service at all
void fork_and_exec(const std::string& program);
void posix_spawn_and_wait(const std::string& program);
void boost_process_and_wait(boost::asio::io_context& io, const std::string& program);
void cleanfork_run(const cleanfork::client& client, const std::string& program);
void cleanfork_spawn_and_wait(const cleanfork::client& client, const std::string& program);

// Spawns a second with `in_flight` children at a time, over `total` of them.
double posix_spawn_rate(const std::string& program, int total, int in_flight);
double cleanfork_rate(const cleanfork::client& client, boost::asio::io_context& io,
                      const std::string& program, int total, int in_flight);

// CPU time of the calling thread for one posix_spawn, and for the initiation of
// one asynchronous spawn whose completion runs on another thread.
std::chrono::nanoseconds posix_spawn_cpu(const std::string& program);

// CPU time this thread has used (CLOCK_THREAD_CPUTIME_ID).
std::chrono::nanoseconds thread_cpu();

}  // namespace bench
