// A connection over which length-prefixed records go, and a server that sends
// them back; with a state on both sides, as TLS has, when it is `sealed`: each
// record carries a check of its number, and an end is announced.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/hazards/scene.hpp"

namespace hazards {

class record_link {
public:
    record_link(cleanfork::unique_fd socket, bool sealed)
        : socket_(std::move(socket)), sealed_(sealed) {}
    record_link(const record_link&) = delete;
    record_link& operator=(const record_link&) = delete;
    ~record_link() {
        if (sealed_) send("");  // close_notify
    }

    void send(const std::string& text) {
        const header h{.size = static_cast<std::uint32_t>(text.size()),
                       .check = sealed_ ? check(text, ++sent_) : 0};
        write_all(socket_.get(), std::string(reinterpret_cast<const char*>(&h), sizeof h) + text);
    }
    // Why there is none; empty when `text` is the next record.
    std::string receive(std::string& text) {
        header h{};
        if (!read_exactly(socket_.get(), &h, sizeof h)) return "no answer";
        if (h.size > k_largest) return "a length of " + std::to_string(h.size);
        text.resize(h.size);
        if (!read_exactly(socket_.get(), text.data(), h.size)) return "an answer cut short";
        if (sealed_ && h.check != check(text, ++received_)) return "a record out of sequence";
        if (sealed_ && text.empty()) return "the end was announced";
        return "";
    }
    // Empty when what comes back is what was sent.
    std::string ask(const std::string& text) {
        send(text);
        std::string answer;
        if (std::string wrong = receive(answer); !wrong.empty()) return wrong;
        return answer == text ? "" : "the answer to another request";
    }

private:
    static constexpr std::uint32_t k_largest = 1 << 20;
    struct header {
        std::uint32_t size;
        std::uint32_t check;
    };
    static std::uint32_t check(const std::string& text, std::uint32_t number) {
        std::uint32_t hash = number * 2654435761U + 1;
        for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
        return hash;
    }

    cleanfork::unique_fd socket_;
    bool sealed_;
    std::uint32_t sent_ = 0, received_ = 0;
};

// A TCP server on a free port of the loopback: a thread for each connection.
class loopback_server {
public:
    explicit loopback_server(std::function<void(cleanfork::unique_fd)> serve);
    loopback_server(const loopback_server&) = delete;
    loopback_server& operator=(const loopback_server&) = delete;
    ~loopback_server();
    [[nodiscard]] std::string port() const { return std::to_string(port_); }

private:
    void accept_all();

    std::function<void(cleanfork::unique_fd)> serve_;
    cleanfork::unique_fd listener_;
    std::uint16_t port_ = 0;
    std::mutex mutex_;
    std::vector<int> open_;  // so that they can be ended
    std::vector<std::jthread> threads_;
    std::jthread acceptor_;
};

// A listening socket on a port of the loopback, 0: a free one; empty with errno on failure.
cleanfork::unique_fd listen_on(std::uint16_t port);
std::uint16_t port_of(int socket);
// A connection that gives up reading after bound(500ms).
cleanfork::unique_fd connect_to(const std::string& port);

// A child that does `asks`, told the port and given a pipe "out" for what went wrong, and
// the parent by `ask` (port, who), at the same time.
verdict both_ask(const scene& s, const job& asks, const std::string& port,
                 std::string (*ask)(const std::string&, const std::string&),
                 const std::string& kind);

}  // namespace hazards
