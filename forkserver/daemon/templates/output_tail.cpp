#include "forkserver/daemon/templates/output_tail.hpp"

#include <unistd.h>

#include <boost/system/system_error.hpp>
#include <cerrno>

#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::size_t k_kept = 4096;
// A template that writes without end must not keep the forkserver from everybody.
constexpr int k_reads_at_once = 16;

}  // namespace

output_tail::output_tail(event_loop& io, unique_fd pipe) : pipe_(io, "output") {
    if (!pipe) return;
    if (const int e = pipe_.take(pipe))
        throw boost::system::system_error(e, boost::system::system_category(), "output pipe");
    await();
}

void output_tail::await() {
    pipe_.await([this] {
        if (drain()) await();
    });
}

bool output_tail::drain() {
    if (!pipe_.is_open()) return false;
    char part[4096];
    for (int turn = 0; turn < k_reads_at_once; ++turn) {
        const ssize_t n = ipc::retry([&] { return ::read(pipe_.fd(), part, sizeof part); });
        if (n < 0 && errno == EAGAIN) return true;
        if (n <= 0) {
            pipe_.close();
            return false;
        }
        text_.append(part, static_cast<std::size_t>(n));
        if (text_.size() > k_kept) text_.erase(0, text_.size() - k_kept);
    }
    return true;
}

}  // namespace cleanfork::daemon
