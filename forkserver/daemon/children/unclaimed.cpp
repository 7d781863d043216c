#include "forkserver/daemon/children/unclaimed.hpp"

#include <cassert>

namespace cleanfork::daemon {

void unclaimed::add(const child& c) {
    assert(c.exit && !c.origin.session && c.origin.lifetime.keep);
    oldest_first_.push_back(c.id);
    while (oldest_first_.size() > most_) {
        const child_id id = oldest_first_.front();
        oldest_first_.pop_front();
        if (children_.find(id) == nullptr) continue;
        log_.warning("status_dropped", {{"child", id.value()}});
        children_.forget(id);
    }
}

}  // namespace cleanfork::daemon
