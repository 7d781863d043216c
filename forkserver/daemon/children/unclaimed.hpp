// Statuses that belong to nobody are kept for `cleanfork wait`, up to a number.
#pragma once

#include <deque>

#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/daemon/log.hpp"

namespace cleanfork::daemon {

class unclaimed {
public:
    unclaimed(child_table& children, logger& log, std::size_t most)
        : children_(children), log_(log), most_(most) {}

    // A child that has ended, of no session and kept. The oldest is forgotten for it when
    // there are too many.
    void add(const child& c);
    // From the next one on.
    void keep_at_most(std::size_t most) noexcept { most_ = most; }

private:
    child_table& children_;
    logger& log_;
    std::size_t most_;
    std::deque<child_id> oldest_first_;  // those that were waited for meanwhile among them
};

}  // namespace cleanfork::daemon
