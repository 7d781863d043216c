// Where processes are between their clone and their program: a stack, what is shared with the
// parent, and a socket on which their descriptors come, for each.
#pragma once

#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <cstddef>
#include <memory>
#include <vector>

#include "forkserver/spawn/disposal.hpp"
#include "forkserver/spawn/steps.hpp"

namespace cleanfork::spawn {

// The steps need a few hundred bytes; execve of the sanitizer builds needs more.
inline constexpr std::size_t k_stack_size = 128 * 1024;
inline constexpr std::size_t k_shared_size = 4096;

class birth_place {
public:
    birth_place() = default;
    birth_place(const birth_place&) = delete;
    birth_place& operator=(const birth_place&) = delete;
    ~birth_place();

    [[nodiscard]] child_report& report() const noexcept {
        return *reinterpret_cast<child_report*>(at_);
    }
    [[nodiscard]] child_context& context() const noexcept {
        return *reinterpret_cast<child_context*>(at_ + k_shared_size / 2);
    }
    // Its lowest byte.
    [[nodiscard]] void* stack() const noexcept { return at_ + k_shared_size; }
    // The number of the child's end, -1 when there is none.
    [[nodiscard]] int channel() const noexcept { return theirs_.get(); }
    // What of the plan the child is not born with, to the child. 0, or errno.
    [[nodiscard]] int send(plan& p);

private:
    friend class birth_places;
    // MAP_SHARED, so that it works with and without CLONE_VM.
    char* at_ = nullptr;
    unique_fd ours_, theirs_;
    bool has_sent_ = false;
};
static_assert(sizeof(child_report) <= k_shared_size / 2);

// As many processes as begin at once when more are asked for: each has a processor.
std::size_t usual_births() noexcept;

// Hands them out, and keeps some that are free.
class birth_places {
public:
    birth_places() = default;
    birth_places(const birth_places&) = delete;
    birth_places& operator=(const birth_places&) = delete;

    // Takes all numbers below `end` that are free, for the children's ends: see launcher.hpp.
    // False when there are not enough for one child.
    bool reserve(int null, int end);
    // The same number again, which has become free.
    void reserve_again(int null, int number);
    // Of those numbers the lowest, a copy of `null` for good.
    [[nodiscard]] int null() const noexcept { return null_.get(); }

    // So many stay when they are free; makes them now.
    result<void> keep(std::size_t number);
    result<std::unique_ptr<birth_place>> take();
    // Nobody uses it any more.
    void give_back(std::unique_ptr<birth_place> place) noexcept;
    // Where goes what a child has not received.
    void dispose_by(shared_disposal disposal) { disposal_ = std::move(disposal); }
    void dispose(std::vector<unique_fd> fds) noexcept {
        if (disposal_) disposal_->dispose(std::move(fds));
    }

private:
    result<std::unique_ptr<birth_place>> make();
    bool drain(birth_place& place) noexcept;
    bool retire(birth_place& place);
    void reserve(unique_fd number);

    unique_fd null_;
    std::vector<unique_fd> reserved_;  // the lowest is the last
    std::vector<std::unique_ptr<birth_place>> free_;
    std::size_t made_ = 0, kept_ = 1;
    shared_disposal disposal_;
};

}  // namespace cleanfork::spawn
