#include <algorithm>
#include <system_error>

#include "tests/hazards/record_link.hpp"

namespace hazards {

namespace {

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(port);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

}  // namespace

cleanfork::unique_fd listen_on(std::uint16_t port) {
    cleanfork::unique_fd s(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int yes = 1;
    ::setsockopt(s.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    const sockaddr_in a = loopback(port);
    if (::bind(s.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0) return {};
    if (::listen(s.get(), SOMAXCONN) != 0) return {};
    return s;
}

std::uint16_t port_of(int socket) {
    sockaddr_in a{};
    socklen_t size = sizeof a;
    ::getsockname(socket, reinterpret_cast<sockaddr*>(&a), &size);
    return ntohs(a.sin_port);
}

cleanfork::unique_fd connect_to(const std::string& port) {
    cleanfork::unique_fd s(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto limit = bound(500ms).count();
    const timeval patience{.tv_sec = limit / 1000, .tv_usec = 1000 * (limit % 1000)};
    ::setsockopt(s.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    const sockaddr_in a = loopback(static_cast<std::uint16_t>(std::stoi(port)));
    if (::connect(s.get(), reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0)
        throw std::system_error(errno, std::system_category(), "connect");
    return s;
}

loopback_server::loopback_server(std::function<void(cleanfork::unique_fd)> serve)
    : serve_(std::move(serve)), listener_(listen_on(0)), port_(port_of(listener_.get())) {
    acceptor_ = std::jthread([this] { accept_all(); });
}

loopback_server::~loopback_server() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
    {
        const std::lock_guard lock(mutex_);
        for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    threads_.clear();
}

void loopback_server::accept_all() {
    for (;;) {
        const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0) return;
        const std::lock_guard lock(mutex_);
        open_.push_back(fd);
        threads_.emplace_back([this, fd] {
            // A copy, so that the number stays this connection's while it is in open_.
            serve_(cleanfork::unique_fd(::dup(fd)));
            const std::lock_guard closing(mutex_);
            ::shutdown(fd, SHUT_RDWR);
            std::erase(open_, fd);
            ::close(fd);
        });
    }
}

verdict both_ask(const scene& s, const job& asks, const std::string& port,
                 std::string (*ask)(const std::string&, const std::string&),
                 const std::string& kind) {
    pipe_ends out = make_pipe();
    child c = s.start(asks, {.word = port, .fds = {{"out", out.write.get()}}});
    const std::string mine = ask(port, "parent");
    const ending e = c.wait();
    out.write.reset();
    const std::string others = e.success() ? read_all(out.read.get()) : e.text();
    if (mine.empty() && others.empty()) return {};
    return damage{kind, "the parent: " + (mine.empty() ? "well" : mine) +
                            "; the child: " + (others.empty() ? "well" : others)};
}

}  // namespace hazards
