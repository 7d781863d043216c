#include "client/src/connection/reader_role.hpp"

namespace cleanfork::detail {

bool reader_role::pass_on(const tables_lock& held) {
    drop();
    for (waiter* next : followers_) {
        if (next->ready(held) || next->promoted(held)) continue;
        taken_ = true;
        next->promote(held);
        return true;
    }
    return false;
}

void reader_role::drop() noexcept {
    assert(taken_);
    taken_ = false;
}

}  // namespace cleanfork::detail
