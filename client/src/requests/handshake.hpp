// From a connected socket to a client: the greeting both ways.
#pragma once

#include <functional>

#include "client/src/connection/connection.hpp"

namespace cleanfork::detail {

// What becomes of the session's rights when this process gives up its own: see launch_options.
enum class session_rights { own, lent };
inline session_rights rights_of(bool lends) {
    return lends ? session_rights::lent : session_rights::own;
}

// Sends the caller's hello and checks the forkserver's. The socket is non-blocking.
result<client> greet(unique_fd socket, any_io_executor executor, const deadline& d,
                     session_rights r = session_rights::own);

// The same on `executor`; `done` is called on it, once.
using greeted = std::function<void(result<client>&&)>;
void start_greeting(unique_fd socket, const any_io_executor& executor, const deadline& d,
                    greeted done, session_rights r = session_rights::own);

}  // namespace cleanfork::detail
