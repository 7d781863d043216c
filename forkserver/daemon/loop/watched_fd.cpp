#include "forkserver/daemon/loop/watched_fd.hpp"

namespace cleanfork::daemon {

int watched_fd::take(unique_fd& fd) {
    boost::system::error_code error;
    descriptor_.assign(fd.get(), error);
    if (error) return error.value();
    (void)fd.release();
    return 0;
}

unique_fd watched_fd::release() noexcept {
    here_ = nullptr;
    unique_fd fd;
    bounded(io_, place_, [&] {
        if (descriptor_.is_open()) fd.reset(descriptor_.release());
        pause_.cancel();
    });
    return fd;
}

}  // namespace cleanfork::daemon
