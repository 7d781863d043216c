// Boost.Process v2 on a forkserver: move a program by changing one alias.
//
//     namespace bp = boost::process::v2;          // before
//     namespace bp = cleanfork::boost_process;    // after
//
//     asio::readable_pipe out(io);
//     bp::process p(io, "/usr/bin/sort", {"words"}, bp::process_stdio{{}, out, nullptr},
//                   bp::process_start_dir("/tmp"), bp::process_environment{"LC_ALL=C"});
//     p.async_wait([](boost::system::error_code ec, int code) { ... });
//
// Header-only, for Boost 1.81 and later. The initializers are Boost's own types;
// what they would do between fork and exec is read from them and asked of the
// forkserver. An initializer that is not known does not compile: its hooks would
// never run. environment::find_executable() needs Boost.Filesystem, as before.
//
// Where processes come from: a private forkserver, launched at the first use,
// or the client given to use(); one `const cleanfork::client&` among the
// initializers decides for a single process. Further initializers of ours: a
// cleanfork::lifetime, and any callable that takes a cleanfork::spawn_options&.
//
// As with Boost: standard streams, environment and current directory are the
// caller's at the time of the call, unless initializers say otherwise; a path
// without '/' is relative to the child's directory and PATH is not searched; the
// destructor of a process kills it; after detach(), or when the program dies, it
// lives on (cleanfork::lifetime as an initializer changes that).
//
// Unlike Boost, and on purpose:
// - The child is fresh: no blocked or ignored signals, umask 022, a process group
//   of its own, and exactly the descriptors that were asked for.
// - Errors are cleanfork::spawn_error, or error_codes of cleanfork::error_category():
//   they compare equal to the errno's condition and name the step. Their value() is no errno.
// - The launcher's overload with a context and an error_code fills it; Boost 1.81's throws.
// - wait(), running() and exit_code() may be called after async_wait(); a status that
//   nobody can know is an error (ECHILD), never 0.
// - native_handle() is the pidfd, borrowed; -1 when the child ended at once.
//   (Boost 1.81's does not compile on Linux.) A process cannot be made from a foreign pid.
// - Entries of process_environment without a name and '=' are dropped, and variables
//   arrive sorted by name.
// docs/examples/boost_process/README.md lists the traps of Boost 1.81 that are gone.
//
// Thread-safety: distinct objects may be used from many threads at once; one
// object, as an object of Asio, may not.
#pragma once

#include <cleanfork/detail/boost_process_client.hpp>
#include <cleanfork/detail/boost_process_execute.hpp>
#include <cleanfork/detail/boost_process_exit_code.hpp>
#include <cleanfork/detail/boost_process_ext.hpp>
#include <cleanfork/detail/boost_process_handle.hpp>
#include <cleanfork/detail/boost_process_launchers.hpp>
#include <cleanfork/detail/boost_process_popen.hpp>
#include <cleanfork/detail/boost_process_process.hpp>
#include <cleanfork/detail/boost_process_request.hpp>
