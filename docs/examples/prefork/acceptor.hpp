// Takes connections off a listening socket, on a thread of its own, until told to
// stop: which a gRPC server that listens by itself can only do by shutting down.
#pragma once

#include <sys/types.h>

#include <cleanfork/unique_fd.hpp>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

namespace prefork {

class acceptor {
public:
    // `take` gets each connection, on that thread.
    acceptor(cleanfork::unique_fd listener, std::function<void(cleanfork::unique_fd)> take);
    acceptor(const acceptor&) = delete;
    acceptor& operator=(const acceptor&) = delete;
    ~acceptor() { stop(); }

    // Takes those that wait now, since the kernel resets them when nobody else has the
    // socket, and then none any more. Closes the listener.
    void stop();

    // How many of the connections it took are open in this process.
    [[nodiscard]] std::size_t open_connections();

private:
    void run(const std::stop_token& stopped);
    void accept_one();
    [[nodiscard]] bool one_waits() const;

    cleanfork::unique_fd listener_;
    std::function<void(cleanfork::unique_fd)> take_;
    std::mutex mutex_;
    std::set<ino_t> connections_;  // by the inodes of their sockets
    std::jthread thread_;
};

}  // namespace prefork
