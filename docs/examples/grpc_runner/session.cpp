#include "session.hpp"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/write.hpp>

#include "messages.hpp"

namespace asio = boost::asio;
using asio::awaitable, asio::use_awaitable;
using boost::system::error_code;
using runner::v1::RunReply, runner::v1::RunRequest;

namespace {

constexpr std::size_t k_chunk = 64 * 1024;  // the size of a pipe
constexpr auto k_no_throw = asio::as_tuple(use_awaitable);

}  // namespace

session::session(const asio::any_io_executor& executor, const cleanfork::client& forkserver)
    : forkserver_(forkserver),
      stream_(stream_type::create(executor)),
      in_(executor),
      out_{pipe_end(executor)},
      err_{pipe_end(executor)} {}

session::stream_type* session::start(asio::any_io_executor executor,
                                     const cleanfork::client& forkserver) {
    const auto self = std::make_shared<session>(executor, forkserver);
    asio::co_spawn(executor, self->serve(), [self](const std::exception_ptr& e) {
        // Only what nobody foresaw, such as bad_alloc, gets here.
        if (e) self->stream_->finish({grpc::StatusCode::INTERNAL, "the call failed"});
    });
    return self->stream_.get();
}

awaitable<void> session::serve() {
    using namespace asio::experimental::awaitable_operators;
    RunRequest first;
    if (!co_await stream_->read(first) || !first.has_start())
        co_return stream_->finish(
            {grpc::StatusCode::INVALID_ARGUMENT, "the first message has to be `start`"});

    const cleanfork::spawn_options options = options_of(first.start());
    auto [failed, child] = co_await forkserver_.async_spawn(options, k_no_throw);
    if (failed) {
        co_await stream_->write(failed_reply(cleanfork::failure_of(failed)));
        co_return stream_->finish(grpc::Status::OK);
    }
    child_ = std::move(child);
    in_.assign(child_.take_in().release());
    out_.pipe.assign(child_.take_out().release());
    err_.pipe.assign(child_.take_err().release());

    co_await stream_->write(started_reply(child_));
    const auto self = shared_from_this();
    asio::co_spawn(in_.get_executor(), feed(), [self](const std::exception_ptr&) {});
    co_await (deliver() || kill_when_cancelled());
    in_.close();
    stream_->finish(grpc::Status::OK);
}

// The client's messages to the program's standard input, one at a time: the
// next is not asked for before the program has taken this one.
awaitable<void> session::feed() {
    RunRequest request;
    while (co_await stream_->read(request)) {
        const auto [error, size] =
            co_await asio::async_write(in_, asio::buffer(request.input()), k_no_throw);
        if (error) co_return;  // the program closed its input, or has ended
    }
    in_.close();
}

awaitable<void> session::deliver() {
    using namespace asio::experimental::awaitable_operators;
    co_await (forward(out_, &RunReply::mutable_out) && forward(err_, &RunReply::mutable_err) &&
              wait_for_end());
    co_await stream_->write(finished_reply(child_, status_));
}

// One chunk is read, and the next only when gRPC has taken it: a program that
// writes faster than the client reads waits, and nothing piles up in the server.
awaitable<void> session::forward(output& from, bytes_of_reply part) {
    while (from.left > 0) {
        const bool after_end = ended_;
        RunReply reply;
        std::string& bytes = *(reply.*part)();
        bytes.resize(std::min(from.left, k_chunk));
        const auto [error, size] =
            co_await from.pipe.async_read_some(asio::buffer(bytes), k_no_throw);
        if (error == asio::error::operation_aborted && ended_) continue;
        if (error) co_return;
        if (after_end) from.left -= size;
        bytes.resize(size);
        if (!co_await stream_->write(std::move(reply))) co_return;
    }
}

// The output ends with the program, with what is in the pipes then. Their end of
// file may never come: a process left behind can hold them, and write for ever.
awaitable<void> session::wait_for_end() {
    status_ = co_await child_.async_wait(use_awaitable);
    ended_ = true;
    for (output* o : {&out_, &err_}) {
        asio::posix::descriptor_base::bytes_readable in_the_pipe;
        o->pipe.io_control(in_the_pipe);
        o->left = in_the_pipe.get();
        o->pipe.cancel();
    }
}

awaitable<void> session::kill_when_cancelled() {
    if (!co_await stream_->cancelled()) co_return;
    try {
        co_await forkserver_.async_signal(child_.child_id(), SIGKILL,
                                          cleanfork::signal_target::group, use_awaitable);
    } catch (const cleanfork::spawn_error&) {
        // It has ended meanwhile.
    }
}
