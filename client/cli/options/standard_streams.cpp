#include "client/cli/options/standard_streams.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <initializer_list>

namespace cleanfork::cli {

closed_streams occupy_standard_streams() {
    closed_streams streams;
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (::fcntl(fd, F_GETFD) >= 0) continue;
        streams.closed[fd] = true;
        // The lowest free number is this one. It stays without CLOEXEC: a
        // daemon that `serve` becomes needs the three as well.
        static_cast<void>(::open("/dev/null", O_RDWR));
    }
    return streams;
}

}  // namespace cleanfork::cli
