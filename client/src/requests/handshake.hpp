// From a connected socket to a client: the greeting both ways.
#pragma once

#include <functional>

#include "client/src/connection/connection.hpp"

namespace cleanfork::detail {

// Sends the caller's hello and checks the forkserver's. The socket is non-blocking.
result<client> greet(unique_fd socket, any_io_executor executor, const deadline& d);

// The same on `executor`; `done` is called on it, once.
using greeted = std::function<void(result<client>&&)>;
void start_greeting(unique_fd socket, const any_io_executor& executor, const deadline& d,
                    greeted done);

}  // namespace cleanfork::detail
