// Who reads the socket: one thread at a time, or nobody.
#pragma once

#include <vector>

#include "client/src/connection/waiter.hpp"

namespace cleanfork::detail {

class reader_role {
public:
    [[nodiscard]] bool taken() const noexcept { return taken_; }
    // False when somebody has it.
    [[nodiscard]] bool take() noexcept { return !std::exchange(taken_, true); }
    // Of whoever has it: passes it to a thread that waits and has nothing yet. False: nobody
    // waits, and nobody has it from now on.
    bool pass_on(const tables_lock& held);
    // Nobody needs it any more: the connection was lost.
    void drop() noexcept;

    // Between the two the role can be passed to `w`.
    void follow(waiter& w) { followers_.push_back(&w); }
    void unfollow(waiter& w) { std::erase(followers_, &w); }

private:
    bool taken_ = false;
    std::vector<waiter*> followers_;
};

}  // namespace cleanfork::detail
