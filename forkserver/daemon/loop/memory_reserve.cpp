#include "forkserver/daemon/loop/memory_reserve.hpp"

#include <cstdlib>
#include <new>

namespace cleanfork::daemon {

namespace {

// A new handler has no argument.
void* reserve = nullptr;

void give_back() {
    if (reserve == nullptr) throw std::bad_alloc();
    std::free(reserve);
    reserve = nullptr;
}

}  // namespace

void memory_reserve::keep() noexcept {
    (void)is_there();
    std::set_new_handler(&give_back);
}

bool memory_reserve::is_there() noexcept {
    if (reserve == nullptr) reserve = std::malloc(k_size);
    return reserve != nullptr;
}

}  // namespace cleanfork::daemon
