// A bidirectional gRPC stream on the server's side as something to co_await.
//
// gRPC calls the reactions on threads of its own. Each one moves to the
// executor, which must run on one thread: everything else happens there, without locks.
#pragma once

#include <grpcpp/grpcpp.h>

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

template <class Request, class Reply>
class rpc_stream final : public grpc::ServerBidiReactor<Request, Reply>,
                         public std::enable_shared_from_this<rpc_stream<Request, Reply>> {
public:
    // gRPC shares the ownership until the call is over.
    static std::shared_ptr<rpc_stream> create(boost::asio::any_io_executor executor) {
        std::shared_ptr<rpc_stream> stream(new rpc_stream(std::move(executor)));
        stream->held_by_grpc_ = stream;
        return stream;
    }

    // False when the client sends no more. One read at a time.
    boost::asio::awaitable<bool> read(Request& into) {
        return boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void(bool)>(
            [this, &into](auto handler) {
                reader_.emplace(std::move(handler));
                this->StartRead(&into);
            },
            boost::asio::use_awaitable);
    }

    // Completes when gRPC wants more, which is how a slow client slows us down;
    // false when nobody receives any more. Writes take turns.
    boost::asio::awaitable<bool> write(Reply reply) {
        return boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void(bool)>(
            [this](auto handler, Reply r) {
                writes_.push_back({std::move(r), std::move(handler)});
                if (writes_.size() == 1) this->StartWrite(&writes_.front().reply);
            },
            boost::asio::use_awaitable, std::move(reply));
    }

    // True once the client has cancelled or gone, or its deadline has passed.
    // False when this wait was itself cancelled.
    boost::asio::awaitable<bool> cancelled() {
        boost::system::error_code ignored;
        if (!is_cancelled_)
            co_await cancelled_.async_wait(
                boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
        co_return is_cancelled_;
    }

    // Ends the call; a read in progress completes with false.
    void finish(const grpc::Status& status) {
        if (!std::exchange(finished_, true)) this->Finish(status);
    }

private:
    using completion = boost::asio::any_completion_handler<void(bool)>;
    struct pending_write {
        Reply reply;
        completion done;
    };

    explicit rpc_stream(boost::asio::any_io_executor executor)
        : executor_(executor),
          cancelled_(std::move(executor), boost::asio::steady_timer::time_point::max()) {}

    void OnReadDone(bool ok) override {
        boost::asio::post(executor_, [self = this->shared_from_this(), ok] {
            completion done = std::move(*self->reader_);
            self->reader_.reset();
            std::move(done)(ok);
        });
    }

    void OnWriteDone(bool ok) override {
        boost::asio::post(executor_, [self = this->shared_from_this(), ok] {
            completion done = std::move(self->writes_.front().done);
            self->writes_.pop_front();
            if (!self->writes_.empty()) self->StartWrite(&self->writes_.front().reply);
            std::move(done)(ok);
        });
    }

    void OnCancel() override {
        boost::asio::post(executor_, [self = this->shared_from_this()] {
            self->is_cancelled_ = true;
            self->cancelled_.cancel();
        });
    }

    void OnDone() override {
        boost::asio::post(executor_, [self = std::move(held_by_grpc_)] {});
    }

    const boost::asio::any_io_executor executor_;
    std::shared_ptr<rpc_stream> held_by_grpc_;
    std::optional<completion> reader_;  // never assigned: that recurses in Boost 1.81
    std::deque<pending_write> writes_;  // the first one is with gRPC
    boost::asio::steady_timer cancelled_;
    bool is_cancelled_ = false;
    bool finished_ = false;
};
