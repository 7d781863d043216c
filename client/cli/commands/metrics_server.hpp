// `cleanfork metrics --listen`: /metrics over HTTP, in a process of its own.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <functional>
#include <string>
#include <variant>

#include "client/cli/options/values.hpp"

namespace cleanfork::cli {

// Where it listens.
struct http_place {
    std::variant<boost::asio::ip::tcp::endpoint, boost::asio::local::stream_protocol::endpoint> at;
    std::string text;  // as it was typed
};

// "unix:PATH", "127.0.0.1:9464", "[::1]:9464"; names of hosts are not looked up.
parsed<http_place> parse_http_place(const std::string& text);

// Serves until SIGTERM or SIGINT; `scrape` gives the text of each answer, and must not throw.
// Throws command_error when it cannot listen.
void serve_metrics(const http_place& place, const std::function<std::string()>& scrape);

}  // namespace cleanfork::cli
