#include "forkserver/daemon/loop/watched_fd.hpp"

namespace cleanfork::daemon {

int watched_fd::take(unique_fd& fd) {
    boost::system::error_code error;
    descriptor_.assign(fd.get(), error);
    if (error) return error.value();
    (void)fd.release();
    return 0;
}

void watched_fd::close() noexcept {
    here_ = nullptr;
    boost::system::error_code ignored;
    if (descriptor_.is_open()) descriptor_.close(ignored);
    bounded(io_, place_, [this] { pause_.cancel(); });
}

}  // namespace cleanfork::daemon
