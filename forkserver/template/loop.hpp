// The loop of a template process: it forks when the forkserver says so, and tells
// how its children ended. It knows nothing of requests.
#pragma once

#include <functional>

#include "forkserver/template/host.hpp"

namespace cleanfork::templates {

// Runs `initialize` (which may throw: the template has then failed), reports ready
// and serves. `control` is the socket to the forkserver, CLOEXEC; when that closes
// the process ends. Its libraries may have threads that they end before each fork.
[[noreturn]] void initialize_and_serve(int control, host& h,
                                       const std::function<void()>& initialize);

}  // namespace cleanfork::templates
