#include "client/src/connection/blocking.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <optional>

#include "client/src/connection/connection.hpp"

namespace cleanfork::detail {

namespace {

// How long an interruption may go unnoticed.
constexpr std::chrono::milliseconds k_slice{20};

// A wait until `d`, cut into slices when something may interrupt it.
class sliced {
public:
    sliced(const deadline& d, interruption* i) : end_(d), interrupted_(i) {}

    // When the next slice ends.
    [[nodiscard]] deadline next() const {
        if (interrupted_ == nullptr) return end_;
        const auto soon = steady::now() + k_slice;
        return end_ ? std::min(*end_, soon) : soon;
    }
    // After each: whether it was the last, and why.
    [[nodiscard]] std::optional<blocked> over() const {
        if (interrupted_ != nullptr && interrupted_->is_due()) return blocked::interrupted;
        if (passed(end_)) return blocked::timed_out;
        return std::nullopt;
    }

private:
    const deadline& end_;
    interruption* const interrupted_;
};

std::span<pollfd> wanted(const meanwhile& work) {
    return work.served != nullptr ? work.served->wanted() : std::span<pollfd>();
}

}  // namespace

blocked block(connection& c, waiter& w, const deadline& d, const meanwhile& work) {
    const sliced time(d, work.interrupted);
    for (;;) {
        connection::awaited r;
        {
            auto held = c.lock();
            r = c.await(held, w, time.next(), wanted(work));
        }
        if (r == connection::awaited::ready) return blocked::ready;
        if (r == connection::awaited::descriptors) work.served->serve();
        // Also while descriptors keep it busy: output without end must not outlast a deadline.
        if (const auto end = time.over()) return *end;
    }
}

blocked block_on(pollfd& own, const deadline& d, const meanwhile& work) {
    const sliced time(d, work.interrupted);
    for (;;) {
        std::array<pollfd, 1 + connection::k_most_also> all{};
        const std::span<pollfd> also = wanted(work);
        assert(also.size() <= connection::k_most_also);
        all[0] = own;
        std::copy(also.begin(), also.end(), all.begin() + 1);
        poll_until({all.data(), also.size() + 1}, time.next());
        own.revents = all[0].revents;
        std::copy_n(all.begin() + 1, also.size(), also.begin());
        if (!also.empty()) work.served->serve();
        if (own.revents != 0) return blocked::ready;
        if (const auto end = time.over()) return *end;
    }
}

blocked block_until_sent(connection& c, const deadline& d, interruption* interrupted) {
    const sliced time(d, interrupted);
    while (c.sends_blocked()) {
        c.flush_blocking(time.next());
        if (!c.sends_blocked()) break;
        if (const auto end = time.over()) return *end;
        if (c.lost()) break;
    }
    return blocked::ready;
}

}  // namespace cleanfork::detail
