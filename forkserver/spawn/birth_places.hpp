// Where processes are between their clone and their program: a stack, and what is shared with the
// parent, for each.
#pragma once

#include <cleanfork/failure.hpp>
#include <cstddef>
#include <vector>

#include "forkserver/spawn/steps.hpp"

namespace cleanfork::spawn {

// The steps need a few hundred bytes; execve of the sanitizer builds needs more.
inline constexpr std::size_t k_stack_size = 128 * 1024;
inline constexpr std::size_t k_shared_size = 4096;

// One mapping, MAP_SHARED so that it works with and without CLONE_VM.
class place_parts {
public:
    explicit place_parts(void* place) noexcept : at_(static_cast<char*>(place)) {}

    [[nodiscard]] child_report& report() const noexcept {
        return *reinterpret_cast<child_report*>(at_);
    }
    [[nodiscard]] child_context& context() const noexcept {
        return *reinterpret_cast<child_context*>(at_ + k_shared_size / 2);
    }
    // Its lowest byte.
    [[nodiscard]] void* stack() const noexcept { return at_ + k_shared_size; }

private:
    char* at_;
};
static_assert(sizeof(child_report) <= k_shared_size / 2);

// Those that are free are kept, as many as ever were in use at once.
class birth_places {
public:
    birth_places() = default;
    birth_places(const birth_places&) = delete;
    birth_places& operator=(const birth_places&) = delete;
    ~birth_places();

    result<void*> take();
    // Nobody uses it any more.
    void give_back(void* place) noexcept;

private:
    std::vector<void*> free_;
    std::size_t made_ = 0;
};

}  // namespace cleanfork::spawn
