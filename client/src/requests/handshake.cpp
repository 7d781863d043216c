#include "client/src/requests/handshake.hpp"

#include <algorithm>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>

#include "client/src/connection/convert.hpp"
#include "client/src/requests/async_call.hpp"
#include "client/src/requests/blocking_call.hpp"
#include "client/src/requests/translate.hpp"
#include "ipc/base/features.hpp"
#include "ipc/wire/identity_message.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::detail {

namespace {

struct hello_request : plain_request<void> {
    static result<hello_request> fill(outgoing& m, const deadline& d, const session_rights& r);
    // Puts into the connection what was told, before the reader goes on.
    static result<void> convert(connection& c, reply&& r);
    static failure expired() {
        return ipc::fail(step::hello, ETIMEDOUT, "forkserver", "no greeting in time");
    }
};

result<hello_request> hello_request::fill(outgoing& m, const deadline&,
                                          const session_rights& lent) {
    v1::Hello& hello = *m->mutable_hello();
    hello.set_protocol(ipc::k_protocol_version);
    hello.set_version(CLEANFORK_VERSION);
    hello.set_lends_rights(lent == session_rights::lent);
    if (auto r = fill_base(*hello.mutable_base(), m.descriptors); !r) return r.error();
    return hello_request();
}

result<void> hello_request::convert(connection& c, reply&& r) {
    if (!r.message.has_hello()) return unexpected_reply();
    const v1::HelloReply& hello = r.message.hello();
    if (hello.protocol() != ipc::k_protocol_version)
        return ipc::fail(step::hello, EPROTONOSUPPORT, "forkserver",
                         "it speaks version " + std::to_string(hello.protocol()) +
                             " of the protocol, this client version " +
                             std::to_string(ipc::k_protocol_version) +
                             ": install the same cleanfork on both sides");
    const bool exit_info = std::find(hello.features().begin(), hello.features().end(),
                                     v1::FEATURE_PIDFD_EXIT_INFO) != hello.features().end();
    c.set_facts({.server = server_of(hello),
                 .pidfd_tells_exit =
                     exit_info && !ipc::disabled_by_environment(ipc::feature::pidfd_exit_info),
                 .identity = {.rights = ipc::from_wire(hello.rights()),
                              .place = ipc::from_wire(hello.place()),
                              .conduct = ipc::from_wire(hello.conduct())}});
    return {};
}

// A greeting in progress on an executor: the reply or the timer, whichever is first.
class greeting : public std::enable_shared_from_this<greeting> {
public:
    greeting(std::shared_ptr<connection> c, greeted done, session_rights r)
        : connection_(std::move(c)),
          rights_(r),
          strand_(boost::asio::make_strand(connection_->executor())),
          timer_(strand_),
          done_(std::move(done)) {}

    void begin(const deadline& d) {
        auto on_reply = [self = shared_from_this()](const std::exception_ptr& e) {
            if (e)
                self->complete(failure_of(e));
            else
                self->complete(connection::make_client(self->connection_));
        };
        start<hello_request>(connection_,
                             void_handler(boost::asio::bind_executor(strand_, std::move(on_reply))),
                             rights_);
        boost::asio::post(strand_, [self = shared_from_this(), d] { self->watch_the_clock(d); });
    }

private:
    void watch_the_clock(const deadline& d) {
        if (!d || !done_) return;
        timer_.expires_at(*d);
        timer_.async_wait([self = shared_from_this()](const boost::system::error_code& ec) {
            if (!ec) self->complete(hello_request::expired());
        });
    }
    void complete(result<client>&& r) {
        if (!done_) return;
        timer_.cancel();
        if (!r) connection_->close();
        std::exchange(done_, nullptr)(std::move(r));
    }

    std::shared_ptr<connection> connection_;
    session_rights rights_;
    boost::asio::strand<any_io_executor> strand_;
    boost::asio::steady_timer timer_;
    greeted done_;
};

}  // namespace

result<client> greet(unique_fd socket, any_io_executor executor, const deadline& d,
                     session_rights r) {
    auto c = std::make_shared<connection>(std::move(socket), std::move(executor));
    outgoing m;
    auto hello = hello_request::fill(m, d, r);
    if (!hello) return hello.error();
    if (auto answer = await_reply(*c, m, std::move(*hello), d); !answer) {
        c->close();
        return answer.error();
    }
    return connection::make_client(std::move(c));
}

void start_greeting(unique_fd socket, const any_io_executor& executor, const deadline& d,
                    greeted done, session_rights r) {
    auto c = std::make_shared<connection>(std::move(socket), executor);
    std::make_shared<greeting>(std::move(c), std::move(done), r)->begin(d);
}

}  // namespace cleanfork::detail
