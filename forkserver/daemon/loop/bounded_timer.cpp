#include "forkserver/daemon/loop/bounded_timer.hpp"

#include "forkserver/daemon/loop/boundary.hpp"

namespace cleanfork::daemon {

void bounded_timer::set(clock::time_point at) {
    if (at_ <= at) return;
    insist(io_, place_, [&] {
        timer_.expires_at(at);  // those that waited before are told that they wait no more
        timer_.async_wait([this, here = std::weak_ptr<char>(here_)](boost::system::error_code ec) {
            if (ec || here.expired() || clock::now() < at_) return;
            at_ = clock::time_point::max();
            bounded(io_, place_, ring_);
        });
    });
    at_ = at;
}

void bounded_timer::cancel() {
    at_ = clock::time_point::max();
    timer_.cancel();
}

}  // namespace cleanfork::daemon
