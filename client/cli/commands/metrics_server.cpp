#include "client/cli/commands/metrics_server.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <optional>

#include "client/cli/options/command_error.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/reports/open_metrics.hpp"
#include "client/cli/reports/output.hpp"
#include "client/cli/reports/text_table.hpp"

namespace cleanfork::cli {

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using namespace std::chrono_literals;

constexpr std::size_t k_most_connections = 256;  // one more is closed at once
constexpr std::uint32_t k_most_header = 8192;
constexpr auto k_patience_with_http = 10s;  // for each request, and each answer
constexpr auto k_pause = 100ms;             // when no connection can be taken in
constexpr std::string_view k_unix = "unix:";

using answer = http::response<http::string_body>;

answer answer_to(const http::request<http::empty_body>& asked,
                 const std::function<std::string()>& scrape) {
    answer a(http::status::ok, asked.version());
    a.keep_alive(asked.keep_alive());
    a.set(http::field::content_type, "text/plain; charset=utf-8");
    const bool is_head = asked.method() == http::verb::head;
    const auto target = asked.target().substr(0, asked.target().find('?'));
    if (asked.method() != http::verb::get && !is_head) {
        a.result(http::status::method_not_allowed);
        a.set(http::field::allow, "GET, HEAD");
        a.body() = "GET or HEAD\n";
    } else if (target == "/metrics") {
        a.set(http::field::content_type, k_open_metrics_type);
        a.body() = scrape();
    } else if (target == "/") {
        a.body() = "cleanfork: the metrics are at /metrics\n";
    } else {
        a.result(http::status::not_found);
        a.body() = "the metrics are at /metrics\n";
    }
    a.content_length(a.body().size());
    if (is_head) a.body().clear();
    return a;
}

// One connection; it is there as long as it has something to do.
template <class Protocol>
class connection_of_http : public std::enable_shared_from_this<connection_of_http<Protocol>> {
public:
    connection_of_http(typename Protocol::socket socket, std::shared_ptr<char> place,
                       const std::function<std::string()>& scrape)
        : stream_(std::move(socket)), place_(std::move(place)), scrape_(scrape) {}

    void read() {
        parser_.emplace();
        parser_->header_limit(k_most_header);
        stream_.expires_after(k_patience_with_http);
        http::async_read(stream_, buffer_, *parser_,
                         [self = this->shared_from_this()](error_code ec, std::size_t) {
                             if (!ec) self->write();
                         });
    }

private:
    void write() {
        answer_ = answer_to(parser_->get(), scrape_);
        // An answer to HEAD has no body, whatever its length says.
        serializer_.emplace(answer_);
        stream_.expires_after(k_patience_with_http);
        const auto written = [self = this->shared_from_this()](error_code ec, std::size_t) {
            if (!ec && self->answer_.keep_alive()) self->read();
        };
        if (parser_->get().method() == http::verb::head)
            http::async_write_header(stream_, *serializer_, written);
        else
            http::async_write(stream_, *serializer_, written);
    }

    boost::beast::basic_stream<Protocol> stream_;
    const std::shared_ptr<char> place_;  // counts the connections
    const std::function<std::string()>& scrape_;
    boost::beast::flat_buffer buffer_{k_most_header};
    std::optional<http::request_parser<http::empty_body>> parser_;
    answer answer_;
    std::optional<http::response_serializer<http::string_body>> serializer_;
};

template <class Protocol>
class listener_of_http {
public:
    listener_of_http(asio::io_context& io, const std::function<std::string()>& scrape)
        : acceptor_(io), pause_(io), scrape_(scrape) {}

    typename Protocol::endpoint open(const typename Protocol::endpoint& at, error_code& ec) {
        acceptor_.open(at.protocol(), ec);
        if constexpr (std::is_same_v<Protocol, asio::ip::tcp>)
            if (!ec) acceptor_.set_option(asio::socket_base::reuse_address(true), ec);
        if (!ec) acceptor_.bind(at, ec);
        if (!ec) acceptor_.listen(asio::socket_base::max_listen_connections, ec);
        if (ec) {
            error_code ignored;
            acceptor_.close(ignored);
            return at;
        }
        return acceptor_.local_endpoint();
    }

    void accept() {
        acceptor_.async_accept([this](error_code ec, typename Protocol::socket socket) {
            if (ec == asio::error::operation_aborted) return;
            if (ec) {  // no descriptor, no memory: later there may be some
                pause_.expires_after(k_pause);
                return pause_.async_wait([this](error_code stopped) {
                    if (!stopped) accept();
                });
            }
            if (static_cast<std::size_t>(connections_.use_count()) <= k_most_connections)
                std::make_shared<connection_of_http<Protocol>>(std::move(socket), connections_,
                                                               scrape_)
                    ->read();
            accept();
        });
    }

private:
    typename Protocol::acceptor acceptor_;
    asio::steady_timer pause_;
    const std::function<std::string()>& scrape_;
    std::shared_ptr<char> connections_ = std::make_shared<char>();
};

[[noreturn]] void cannot_listen(const http_place& place, const std::string& why) {
    throw command_error("--listen " + printable(place.text) + ": " + why, k_exit_failed);
}

// The name of a socket at which nobody listens any more is free to be taken. True when it was.
bool removed_what_was_left(const std::string& path) {
    struct stat s {};
    if (::lstat(path.c_str(), &s) != 0 || !S_ISSOCK(s.st_mode)) return false;
    asio::io_context io;
    asio::local::stream_protocol::socket probe(io);
    error_code ec;
    probe.connect(path, ec);
    return ec == asio::error::connection_refused && ::unlink(path.c_str()) == 0;
}

void open_place(listener_of_http<asio::ip::tcp>& l, const http_place& place,
                const asio::ip::tcp::endpoint& at) {
    error_code ec;
    const auto bound = l.open(at, ec);
    if (ec) cannot_listen(place, ec.message());
    const std::string host = bound.address().to_string();
    say("metrics at http://" + (bound.address().is_v6() ? "[" + host + "]" : host) + ":" +
        std::to_string(bound.port()) + "/metrics");
}

void open_place(listener_of_http<asio::local::stream_protocol>& l, const http_place& place,
                const asio::local::stream_protocol::endpoint& at) {
    error_code ec;
    const mode_t before = ::umask(0177);  // whoever may read them is the directory's to say
    l.open(at, ec);
    if (ec == asio::error::address_in_use && removed_what_was_left(at.path())) l.open(at, ec);
    ::umask(before);
    if (ec) cannot_listen(place, ec.message());
    say("metrics at " + printable(place.text));
}

}  // namespace

parsed<http_place> parse_http_place(const std::string& text) {
    if (text.starts_with(k_unix)) {
        const std::string path = text.substr(k_unix.size());
        constexpr std::size_t k_longest = sizeof(sockaddr_un::sun_path) - 1;
        if (path.empty() || path.size() > k_longest)
            return bad_value{"the path of a socket has 1 to " + std::to_string(k_longest) +
                             " bytes"};
        return http_place{asio::local::stream_protocol::endpoint(path), text};
    }
    const std::size_t colon = text.rfind(':');
    std::string host = text.substr(0, colon == std::string::npos ? 0 : colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']')
        host = host.substr(1, host.size() - 2);
    error_code ec;
    const auto address = asio::ip::make_address(host, ec);
    const auto port =
        parse_integer(text.substr(colon == std::string::npos ? text.size() : colon + 1), 0, 65535);
    if (ec || !port)
        return bad_value{"expected unix:PATH or ADDRESS:PORT, as in 127.0.0.1:9464 or [::1]:9464"};
    return http_place{asio::ip::tcp::endpoint(address, static_cast<std::uint16_t>(*port)), text};
}

void serve_metrics(const http_place& place, const std::function<std::string()>& scrape) {
    std::visit(
        [&](const auto& at) {
            using protocol = typename std::remove_cvref_t<decltype(at)>::protocol_type;
            asio::io_context io(1);
            listener_of_http<protocol> l(io, scrape);
            open_place(l, place, at);
            asio::signal_set ends(io, SIGTERM, SIGINT);
            ends.async_wait([&io](error_code, int) { io.stop(); });
            l.accept();
            io.run();
            if constexpr (std::is_same_v<protocol, asio::local::stream_protocol>)
                ::unlink(at.path().c_str());
        },
        place.at);
}

}  // namespace cleanfork::cli
