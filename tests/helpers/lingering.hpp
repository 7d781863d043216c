// A TCP socket whose last close waits as long as its owner chose.
#pragma once

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cleanfork/unique_fd.hpp>
#include <csignal>
#include <utility>
#include <vector>

#include "ipc/base/close_others.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::testing {

// A TCP socket with data that its peer does not read, and an hour to wait for that.
class lingering {
public:
    lingering() : end_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        const unique_fd listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
        auto* const at = reinterpret_cast<sockaddr*>(&address);
        socklen_t size = sizeof address;
        REQUIRE(::bind(listening.get(), at, size) == 0);
        REQUIRE(::listen(listening.get(), 1) == 0);
        REQUIRE(::getsockname(listening.get(), at, &size) == 0);
        REQUIRE(::connect(end_.get(), at, size) == 0);
        peer_.reset(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC));
        REQUIRE(peer_);
        const std::array<char, 65'536> zeros{};
        ipc::set_nonblocking(end_.get());
        while (::send(end_.get(), zeros.data(), zeros.size(), MSG_NOSIGNAL) > 0) {
        }
        const linger hour{1, 3600};
        REQUIRE(::setsockopt(end_.get(), SOL_SOCKET, SO_LINGER, &hour, sizeof hour) == 0);
        hold();
    }
    lingering(const lingering&) = delete;
    lingering& operator=(const lingering&) = delete;
    ~lingering() { forget(); }

    [[nodiscard]] int get() const { return end_.get(); }
    // Should the forkserver have closed its own already, this would be the last close: it is made
    // by the end of a process, which lets nothing linger.
    void forget() {
        end_.reset();
        dismiss();
    }
    [[nodiscard]] unique_fd release() {
        dismiss();
        return std::move(end_);
    }
    // What was sent arrives, whoever has closed the socket: how much, up to its end.
    [[nodiscard]] std::size_t read_all() const {
        std::vector<char> part(1 << 20);
        std::size_t all = 0;
        for (ssize_t n; (n = ::read(peer_.get(), part.data(), part.size())) > 0;)
            all += static_cast<std::size_t>(n);
        return all;
    }

private:
    // It has a copy of the socket, and of nothing else.
    void hold() {
        holder_ = ::fork();
        if (holder_ == 0) {
            int kept[] = {end_.get()};
            ipc::close_others(kept);
            for (;;) ::pause();
        }
        REQUIRE(holder_ > 0);
    }
    void dismiss() {
        if (holder_ > 0) {
            ::kill(holder_, SIGKILL);
            (void)ipc::retry([&] { return ::waitpid(holder_, nullptr, 0); });
        }
        holder_ = -1;
    }

    unique_fd end_, peer_;
    pid_t holder_ = -1;
};

}  // namespace cleanfork::testing
