// A request that may rightly take long, for a command that has nothing else to do meanwhile.
#pragma once

#include <boost/asio/io_context.hpp>
#include <exception>
#include <optional>
#include <string>

#include "client/cli/foreground/server_watch.hpp"

namespace cleanfork::cli {

// start(done) begins it, with done(std::exception_ptr, Reply). Throws spawn_error: its failure, or
// that the forkserver answers nothing any more. `server` completes on `io` and is at `socket`.
template <class Reply, class Start>
Reply ask(boost::asio::io_context& io, const client& server, const std::string& socket,
          Start start) {
    std::optional<Reply> reply;
    std::exception_ptr failed;
    server_watch watch(io, server, [&] {
        failed = std::make_exception_ptr(spawn_error(silence_of(server, socket)));
        io.stop();
    });
    start([&](const std::exception_ptr& error, Reply r) {
        failed = error;
        reply.emplace(std::move(r));
        io.stop();
    });
    watch.start();
    io.run();
    if (failed) std::rethrow_exception(failed);
    return std::move(*reply);
}

}  // namespace cleanfork::cli
