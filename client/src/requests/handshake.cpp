#include "client/src/requests/handshake.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include "client/src/requests/operations.hpp"
#include "client/src/requests/translate.hpp"
#include "ipc/base/features.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::detail {

namespace {

void fill_hello(outgoing& m) {
    v1::Hello& hello = *m->mutable_hello();
    hello.set_protocol(ipc::k_protocol_version);
    hello.set_version(CLEANFORK_VERSION);
    fill_base(*hello.mutable_base(), m.descriptors);
}

// A greeting in progress on an executor: the reply or the timer, whichever is first.
class greeting : public std::enable_shared_from_this<greeting> {
public:
    greeting(std::shared_ptr<connection> c, greeted done)
        : connection_(std::move(c)),
          strand_(boost::asio::make_strand(connection_->executor())),
          timer_(strand_),
          done_(std::move(done)) {}

    void begin(const deadline& d) {
        outgoing m;
        fill_hello(m);
        using handler = boost::asio::any_completion_handler<void(std::exception_ptr, server_info)>;
        auto on_reply = [self = shared_from_this()](const std::exception_ptr& e, server_info) {
            if (e)
                self->complete(failure_of(e));
            else
                self->complete(connection::make_client(self->connection_));
        };
        start(*connection_, m, to_server_info{},
              handler(boost::asio::bind_executor(strand_, std::move(on_reply))));
        boost::asio::post(strand_, [self = shared_from_this(), d] { self->watch_the_clock(d); });
    }

private:
    void watch_the_clock(const deadline& d) {
        if (!d || !done_) return;
        timer_.expires_at(*d);
        timer_.async_wait([self = shared_from_this()](const boost::system::error_code& ec) {
            if (!ec) self->complete(to_server_info::expired());
        });
    }
    void complete(result<client>&& r) {
        if (!done_) return;
        timer_.cancel();
        if (!r) connection_->close();
        std::exchange(done_, nullptr)(std::move(r));
    }

    std::shared_ptr<connection> connection_;
    boost::asio::strand<any_io_executor> strand_;
    boost::asio::steady_timer timer_;
    greeted done_;
};

}  // namespace

// Fills the connection in as well: the reader calls this before it reads on.
result<server_info> to_server_info::operator()(connection& c, reply&& r) const {
    if (!r.message.has_hello()) return unexpected_reply();
    const v1::HelloReply& hello = r.message.hello();
    if (hello.protocol() != ipc::k_protocol_version)
        return ipc::fail(step::hello, EPROTONOSUPPORT, "forkserver",
                         "it speaks version " + std::to_string(hello.protocol()) +
                             " of the protocol, this client version " +
                             std::to_string(ipc::k_protocol_version) +
                             ": install the same cleanfork on both sides");
    c.server = server_of(hello);
    for (const int f : hello.features())
        if (f == v1::FEATURE_PIDFD_EXIT_INFO)
            c.exit_info = !ipc::disabled_by_environment(ipc::feature::pidfd_exit_info);
    return c.server;
}

result<client> greet(unique_fd socket, any_io_executor executor, const deadline& d) {
    auto c = std::make_shared<connection>(std::move(socket), std::move(executor));
    outgoing m;
    fill_hello(m);
    auto info = call(*c, m, to_server_info{}, d);
    if (!info) {
        c->close();
        return info.error();
    }
    return connection::make_client(std::move(c));
}

void start_greeting(unique_fd socket, const any_io_executor& executor, const deadline& d,
                    greeted done) {
    auto c = std::make_shared<connection>(std::move(socket), executor);
    std::make_shared<greeting>(std::move(c), std::move(done))->begin(d);
}

}  // namespace cleanfork::detail
