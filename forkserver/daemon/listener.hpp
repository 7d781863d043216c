// The listening socket: safe path, lifetime lock, takeover of a stale socket, activation.
#pragma once

#include <sys/types.h>

#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <string>

#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/daemon/loop/watched_fd.hpp"

namespace cleanfork::daemon {

// A bound and listening socket, and what must be held or undone with it: at the end it is removed
// while the lock is still held, but not that of another forkserver, which may have been started
// after somebody removed both.
struct listening_socket {
    listening_socket() = default;
    listening_socket(listening_socket&&) noexcept = default;
    listening_socket& operator=(listening_socket&& other) noexcept;
    ~listening_socket() { remove(); }
    void remove() noexcept;

    unique_fd socket;
    unique_fd directory;  // of the path
    unique_fd lock;       // flock'ed while the socket is in place
    std::string name;     // in the directory; empty: activated, not ours to remove
    std::string path;     // for display
    dev_t device = 0;     // of the file at `name` as it was made
    ino_t inode = 0;
};

// Binds `path`: the directory is made (0700) if its parent exists, must belong
// to this user and be closed to writers; `path.lock` is flock'ed, so that one
// forkserver serves a path; the socket is bound under a private name with mode
// 0600 and renamed into place, so that a stale one is replaced at once, and
// nobody can connect to a half-made one. EADDRINUSE names the running server; EEXIST something
// else than a socket, which is left alone.
result<listening_socket> listen_at(const std::string& path);

// The socket passed by socket activation (sd_listen_fds(3): LISTEN_PID must be
// ours); empty when there is none. Takes the variables out of the environment.
result<unique_fd> activated_socket();

class listener_owner {
public:
    virtual void on_connection(unique_fd socket) = 0;
    // It was told why it is not served; what its client has sent may be in it.
    virtual void on_refused(unique_fd socket) = 0;

protected:
    ~listener_owner() = default;
};

class listener {
public:
    // Throws when the socket cannot be watched.
    listener(event_loop& io, listening_socket socket, logger& log, listener_owner& owner);

    // Stops accepting; removes the socket.
    void close();

private:
    void await();
    void accept_and_await();
    bool accept_all();
    void refuse_one(int why);

    event_loop& io_;
    watched_fd acceptor_;
    bounded_timer again_;
    logger& log_;
    int last_error_ = 0;  // of accept4(2), which was logged
    listening_socket held_;
    unique_fd reserve_;  // given up for a moment to refuse a connection when descriptors ran out
    listener_owner& owner_;
};

}  // namespace cleanfork::daemon
