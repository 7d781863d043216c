#include "forkserver/daemon/sessions/charges.hpp"

#include <cassert>

namespace cleanfork::daemon {

namespace {

constexpr std::size_t amounts::*k_all[] = {
    &amounts::spawns,   &amounts::bytes, &amounts::descriptors, &amounts::calls,
    &amounts::children, &amounts::waits, &amounts::memory};

}  // namespace

amounts& amounts::operator+=(const amounts& a) noexcept {
    for (const auto amount : k_all) this->*amount += a.*amount;
    return *this;
}

amounts& amounts::operator-=(const amounts& a) noexcept {
    for (const auto amount : k_all) {
        assert(this->*amount >= a.*amount);
        this->*amount -= a.*amount;
    }
    return *this;
}

}  // namespace cleanfork::daemon
