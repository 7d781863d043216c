// How a client comes to be: launch() starts a private forkserver, connect()
// joins a running one, attach() takes a socket that is connected to one.
//
// Thread-safety: all functions may be called from many threads at once.
//
// For <cleanfork/client.hpp> alone, which includes it once its class is complete.
#pragma once

#include <chrono>
#include <cleanfork/export.hpp>
#include <cleanfork/unique_fd.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace cleanfork {

struct launch_options {
    // cleanforkd; empty: $CLEANFORK_DAEMON, beside this program, beside the library (of
    // both also ../bin and ../sbin), the installed place, PATH; the error lists where it looked.
    std::string daemon{};
    std::vector<std::string> daemon_args{};
    // Where the forkserver logs; borrowed. -1: /dev/null, so that it holds none
    // of the caller's descriptors.
    int log_fd = -1;
    // False: it leads a session of its own, and its children have no terminal. True: it is in
    // the caller's session, in a process group of its own. Ctrl-C at the terminal is not for it,
    // and its children can join the caller's process group, which has the terminal's signals.
    bool share_session = false;
    // True: the forkserver and its children are descendants of the caller, as psutil, pstree and
    // container tools look for them, below a process "cleanfork-wait" that never sends a SIGCHLD
    // and that no wait(2) meets but one with __WALL or __WCLONE. It ends with the client; after
    // an exec it stays until the program ends or launches again. It begins as a copy of the
    // caller, which costs about 20 us for each MiB of memory (in pages of 4 KiB) and a page fault
    // for each page written later. False: the forkserver is a child of init. Empty: as true where
    // the caller has at most 256 MiB of memory of its own. A caller that inherits orphans, an init
    // or a subreaper, gets what true gives in any case: the forkserver would be its child.
    std::optional<bool> descendant{};
    std::chrono::nanoseconds timeout = std::chrono::seconds(10);
    // Once this process has given up its user, it may still ask for children with the rights of
    // the forkserver (identity::of_forkserver). Else the forkserver refuses a request for more
    // than its sender has.
    bool lends_rights = false;
};

struct connect_options {
    std::string path{};  // empty: default_socket_path()
    std::chrono::nanoseconds timeout = std::chrono::seconds(10);
    bool lends_rights = false;  // as for launch_options
};

// $CLEANFORK_SOCKET, else $XDG_RUNTIME_DIR/cleanfork/socket, else /run/cleanfork/socket (root)
// or /run/user/UID/cleanfork/socket.
CLEANFORK_EXPORT std::string default_socket_path();

// Starts a private forkserver as posix_spawn(3) would: no code of the program runs in a copy of
// it, so that it is safe with threads. It ends when the client is destroyed or its process dies.
CLEANFORK_EXPORT client launch(const launch_options& options = {});
CLEANFORK_EXPORT client launch(boost::asio::any_io_executor executor,
                               const launch_options& options = {});

// Joins a running forkserver of the same user.
CLEANFORK_EXPORT client connect(const connect_options& options = {});

// A client on a socket (AF_UNIX, SOCK_SEQPACKET) at whose other end a forkserver
// of the same user waits for the greeting: one that was passed on, or that an
// early start made. Consumes the socket and sets O_NONBLOCK and CLOEXEC.
CLEANFORK_EXPORT client attach(unique_fd socket, timeout t = std::chrono::seconds(10));
CLEANFORK_EXPORT client attach(boost::asio::any_io_executor executor, unique_fd socket,
                               timeout t = std::chrono::seconds(10));

namespace detail {
CLEANFORK_EXPORT client connect_with(boost::asio::any_io_executor, const connect_options&);

// Not any_io_executor as the parameter: whether a type is an executor, Asio finds
// out by asking for connect(it, ...) among others, meets ours, and turns in a circle.
template <class E>
concept executor = requires(const E& e) {
    e.execute([] {});
};
}  // namespace detail

template <detail::executor E>
client connect(E executor, const connect_options& options = {}) {
    return detail::connect_with(std::move(executor), options);
}

namespace detail {
using client_handler = boost::asio::any_completion_handler<void(std::exception_ptr, client)>;
CLEANFORK_EXPORT void start_launch(boost::asio::any_io_executor, const launch_options&,
                                   client_handler);
CLEANFORK_EXPORT void start_connect(boost::asio::any_io_executor, const connect_options&,
                                    client_handler);
CLEANFORK_EXPORT void start_attach(boost::asio::any_io_executor, unique_fd socket, timeout,
                                   client_handler);
}  // namespace detail

template <class Token>
auto async_launch(boost::asio::any_io_executor executor, const launch_options& options,
                  Token&& token) {
    return boost::asio::async_initiate<Token, void(std::exception_ptr, client)>(
        [executor](auto handler, const launch_options& o) {
            detail::start_launch(executor, o, detail::client_handler(std::move(handler)));
        },
        token, std::cref(options));
}
template <class Token>
auto async_connect(boost::asio::any_io_executor executor, const connect_options& options,
                   Token&& token) {
    return boost::asio::async_initiate<Token, void(std::exception_ptr, client)>(
        [executor](auto handler, const connect_options& o) {
            detail::start_connect(executor, o, detail::client_handler(std::move(handler)));
        },
        token, std::cref(options));
}

template <class Token>
auto async_attach(boost::asio::any_io_executor executor, unique_fd socket, timeout t,
                  Token&& token) {
    return boost::asio::async_initiate<Token, void(std::exception_ptr, client)>(
        [executor, t](auto handler, unique_fd s) {
            detail::start_attach(executor, std::move(s), t,
                                 detail::client_handler(std::move(handler)));
        },
        token, std::move(socket));
}

}  // namespace cleanfork
