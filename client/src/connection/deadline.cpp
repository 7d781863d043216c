#include "client/src/connection/deadline.hpp"

#include <algorithm>

namespace cleanfork::detail {

int poll_until(std::span<pollfd> fds, const deadline& d) {
    for (;;) {
        timespec left{};
        if (d) {
            const auto ns =
                std::max<std::int64_t>(std::chrono::nanoseconds(*d - steady::now()).count(), 0);
            left = {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
        }
        const int n = ::ppoll(fds.data(), fds.size(), d ? &left : nullptr, nullptr);
        if (n >= 0) return n;
        // Anything but EINTR (ENOMEM) passes; the descriptors were not looked at.
        for (pollfd& p : fds) p.revents = 0;
        if (passed(d)) return 0;
    }
}

}  // namespace cleanfork::detail
