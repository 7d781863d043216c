#include "forkserver/daemon/log_output.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

void log_output::attach() noexcept {
    struct stat about {};
    if (::fstat(STDERR_FILENO, &about) != 0) return;
    if (S_ISSOCK(about.st_mode)) kind_ = kind::socket;
    if (S_ISREG(about.st_mode)) kind_ = kind::file;
    if (!S_ISFIFO(about.st_mode) && !S_ISCHR(about.st_mode)) return;
    // Without /proc, or with a pipe of another user's, it stays cautious.
    own_.reset(::open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (own_) kind_ = kind::own;
}

long log_output::write_some(std::string_view bytes) const noexcept {
    switch (kind_) {
        case kind::own: return ::write(own_.get(), bytes.data(), bytes.size());
        case kind::socket:
            return ::send(STDERR_FILENO, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        case kind::file: return ::write(STDERR_FILENO, bytes.data(), bytes.size());
        case kind::cautious: break;
    }
    // A pipe that has room at all has it for so much (pipe(7)).
    pollfd out{STDERR_FILENO, POLLOUT, 0};
    if (::poll(&out, 1, 0) != 1 || (out.revents & POLLOUT) == 0) return -1;
    return ::write(STDERR_FILENO, bytes.data(), std::min<std::size_t>(bytes.size(), PIPE_BUF));
}

bool log_output::write_down(std::string_view& bytes) const noexcept {
    while (!bytes.empty()) {
        const long n = ipc::retry([&] { return write_some(bytes); });
        if (n <= 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

bool log_output::write(std::string_view line) {
    if (!rest_.empty()) {
        std::string_view rest = rest_;
        write_down(rest);
        rest_.erase(0, rest_.size() - rest.size());
        if (!rest_.empty()) return false;
    }
    const std::size_t size = line.size();
    if (write_down(line)) return true;
    if (line.size() == size) return false;
    rest_ = line;
    return true;
}

}  // namespace cleanfork::daemon
