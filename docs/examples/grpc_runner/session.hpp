// One call of Run: a program, its streams, and its end.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cleanfork/client.hpp>
#include <cstdint>
#include <memory>

#include "rpc_stream.hpp"
#include "runner.pb.h"

class session : public std::enable_shared_from_this<session> {
public:
    using stream_type = rpc_stream<runner::v1::RunRequest, runner::v1::RunReply>;

    // Serves the call from here on. `forkserver` outlives it, and completes its
    // operations on `executor`, which one thread runs. Returns what gRPC wants.
    static stream_type* start(boost::asio::any_io_executor executor,
                              const cleanfork::client& forkserver);

    session(const boost::asio::any_io_executor& executor, const cleanfork::client& forkserver);

private:
    using pipe_end = boost::asio::posix::stream_descriptor;
    struct output {
        pipe_end pipe;
        std::size_t left = SIZE_MAX;  // that may still be read, known once the program has ended
    };
    using bytes_of_reply = std::string* (runner::v1::RunReply::*)();

    boost::asio::awaitable<void> serve();
    boost::asio::awaitable<void> feed();
    boost::asio::awaitable<void> deliver();
    boost::asio::awaitable<void> forward(output& from, bytes_of_reply part);
    boost::asio::awaitable<void> wait_for_end();
    boost::asio::awaitable<void> kill_when_cancelled();

    const cleanfork::client& forkserver_;
    const std::shared_ptr<stream_type> stream_;
    cleanfork::process child_;
    cleanfork::exit_status status_;
    bool ended_ = false;
    pipe_end in_;
    output out_, err_;
};
