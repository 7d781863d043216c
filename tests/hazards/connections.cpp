// Group 5: pooled connections, which a fork makes those of two processes.
#include <charconv>
#include <memory>
#include <set>

#include "tests/grpc/echo.hpp"
#include "tests/hazards/record_link.hpp"

namespace hazards {

namespace {

// ---- HTTP

// Reads up to an empty line.
bool read_head(int socket, std::string& head) {
    head.clear();
    char c = 0;
    while (head.find("\r\n\r\n") == std::string::npos) {
        if (!read_exactly(socket, &c, 1)) return false;
        head += c;
    }
    return true;
}

// Answers each request on a connection with its path.
void serve_http(cleanfork::unique_fd socket) {
    std::string head;
    while (read_head(socket.get(), head)) {
        const auto begin = head.find(' ') + 1;
        const std::string path = head.substr(begin, head.find(' ', begin) - begin);
        write_all(socket.get(), "HTTP/1.1 200 OK\r\nContent-Length: " +
                                    std::to_string(path.size()) + "\r\n\r\n" + path);
    }
}

class http_client {
    static constexpr std::size_t k_longest = 4096;

public:
    explicit http_client(const std::string& port) : socket_(connect_to(port)) {}
    // The body, or what went wrong.
    std::string get(const std::string& path) {
        write_all(socket_.get(), "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n\r\n");
        std::string head;
        if (!read_head(socket_.get(), head)) return "no answer";
        const auto at = head.find("Content-Length: ");
        if (at == std::string::npos) return "no length";
        std::size_t size = 0;  // of an answer that two have torn, it may be anything
        const auto length = std::from_chars(head.data() + at + 16, head.data() + head.size(), size);
        if (length.ec != std::errc() || size > k_longest) return "no length";
        std::string body(size, '\0');
        if (!read_exactly(socket_.get(), body.data(), body.size())) return "a body cut short";
        return body;
    }

private:
    cleanfork::unique_fd socket_;
};
std::unique_ptr<http_client> http;  // kept alive, made at the first use

std::string get_many(const std::string& port, const std::string& who) {
    if (!http) http = std::make_unique<http_client>(port);
    for (int i = 0; i < 100; ++i) {
        const std::string path = "/" + who + "/" + std::to_string(i);
        if (const std::string body = http->get(path); body != path) return path + " gave " + body;
    }
    return "";
}

const job get_pages("get_pages", [](const task& t) {
    write_all(t.fd("out"), get_many(t.word, "child"));
    return 0;
});

void share_http(const scene& s) {
    loopback_server server(&serve_http);
    s.each([&](unsigned) -> verdict {
        http = std::make_unique<http_client>(server.port());
        return both_ask(s, get_pages, server.port(), &get_many, "mixed up");
    });
    http.reset();
}
const registration by_http({5, "http", "a keep-alive HTTP connection, used by both", 15, 60,
                            &share_http});

// ---- a gRPC channel

std::unique_ptr<cleanfork::test::echo_caller> channel;

const job call_server("call_server", [](const task& t) {
    if (!channel) channel = std::make_unique<cleanfork::test::echo_caller>(t.word);
    for (unsigned i = 0; i < 10; ++i)
        if (!channel->call(i).empty()) return 1;
    return 0;
});

void share_channel(const scene& s) {
    const cleanfork::test::echo_server server;
    channel = std::make_unique<cleanfork::test::echo_caller>(server.address());
    channel->call(1);
    s.all(call_server, {.word = server.address()}, 20);
    const auto wrong = bounded([] { return channel->call(2); }, bound(k_hang));
    if (!wrong)
        s.tell(damage{"parent hung", "the parent's next call on the channel hung"});
    else if (!wrong->empty())
        s.tell(damage{"parent failed", "the parent's next call: " + *wrong});
    s.end_here();
}
const registration by_channel({5, "grpc-channel", "a gRPC channel, used by both", 20, 60,
                               &share_channel});

}  // namespace

}  // namespace hazards
