#include "forkserver/spawn/birth_places.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <new>

#include "ipc/base/sys.hpp"

namespace cleanfork::spawn {

namespace {

constexpr std::size_t k_size = k_shared_size + k_stack_size;

}  // namespace

birth_places::~birth_places() {
    for (void* place : free_) ::munmap(place, k_size);
}

result<void*> birth_places::take() {
    void* place = nullptr;
    if (!free_.empty()) {
        place = free_.back();
        free_.pop_back();
    } else {
        free_.reserve(made_ + 1);  // so that giving back cannot fail
        place = ::mmap(nullptr, k_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (place == MAP_FAILED) return ipc::fail(step::prepare, errno, "the child's stack");
        ++made_;
    }
    const place_parts parts(place);
    new (&parts.report()) child_report{};
    new (&parts.context()) child_context{};
    return place;
}

void birth_places::give_back(void* place) noexcept { free_.push_back(place); }

}  // namespace cleanfork::spawn
