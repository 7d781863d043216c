#include "forkserver/daemon/templates/backoff.hpp"

#include <algorithm>
#include <cassert>

namespace cleanfork::daemon {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds k_first{100};
constexpr milliseconds k_longest{30'000};

}  // namespace

void backoff::schedule(clock::time_point now) noexcept {
    pause_ = pause_.count() == 0 ? k_first : std::min(pause_ * 2, k_longest);
    at_ = now + pause_;
}

milliseconds backoff::left(clock::time_point now) const {
    assert(at_);
    return std::max(std::chrono::duration_cast<milliseconds>(*at_ - now), milliseconds(1));
}

}  // namespace cleanfork::daemon
