// Leases: children of templates that wait for a call which their session sends straight to them.
//
// A leased child is a child of its session as any other, from its request on: charged, known by
// number, met by its lifetime. What is here besides is who may have how many, and their end while
// they wait. That is without a race: the channel is shut for what the client sends, so that a call
// was sent before, and runs, or its sender learns that it was not.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/sessions/spawn_queue.hpp"

namespace cleanfork::daemon {

class leases {
public:
    // One that nobody has used for that many milliseconds, a setting that may change, is taken
    // back.
    leases(event_loop& io, child_table& children, const std::size_t& idle_ms);

    // A place for one more lease of `session`, where the generation has `most` at a time. When all
    // are taken, a session that has more than this one would, loses its oldest. Empty: none.
    [[nodiscard]] std::optional<lease_place> place(generation_id from, session_id session,
                                                   std::size_t most);
    // `c` runs, and waits for its call.
    void granted(child& c, generation_id from, asked_lease&& lease);
    // Its client has told that it has sent the call, or the child has ended: no lease any more.
    void is_over(child& c);

    // Those that wait: each ends, unless its call was sent before.
    void revoke(generation_id from);
    void revoke(session_id session);
    void revoke_all();
    void revoke(child& c);

    [[nodiscard]] std::size_t waiting(generation_id from) const;

private:
    [[nodiscard]] std::chrono::milliseconds idle() const noexcept {
        return std::chrono::milliseconds(idle_ms_);
    }
    struct group {
        std::shared_ptr<lease_counts> counts = std::make_shared<lease_counts>();
        std::vector<child_id> waiting;  // granted, the oldest first
    };
    using groups = std::map<generation_id, group>;

    template <class Predicate>
    void revoke_if(const group& g, Predicate is_it);
    [[nodiscard]] bool make_room(const group& g, session_id session);
    void take_back_idle();
    void drop_empty();

    child_table& children_;
    const std::size_t& idle_ms_;
    bounded_timer timer_;
    groups groups_;
};

}  // namespace cleanfork::daemon
