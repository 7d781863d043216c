#include "forkserver/template/notes.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace cleanfork::templates {

namespace {

constexpr std::size_t k_text = 1000;
// Of so many children that end with an exception at once, each has a place.
constexpr std::size_t k_places = 1024;

}  // namespace

struct notes::note {
    std::atomic<std::uint64_t> sequence;
    std::uint32_t size;
    char text[k_text];
};

// Pages are taken when they are written to: a quiet template costs nothing.
notes::notes() noexcept {
    void* at = ::mmap(nullptr, sizeof(note) * k_places, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at != MAP_FAILED) notes_ = static_cast<note*>(at);
}

notes::~notes() {
    if (notes_ != nullptr) ::munmap(notes_, sizeof(note) * k_places);
}

void notes::leave(std::uint64_t sequence, std::string_view text) noexcept {
    if (notes_ == nullptr) return;
    note& n = notes_[sequence % k_places];
    n.size = static_cast<std::uint32_t>(std::min(text.size(), k_text));
    std::memcpy(n.text, text.data(), n.size);
    n.sequence.store(sequence, std::memory_order_release);
}

std::string notes::take(std::uint64_t sequence) {
    if (notes_ == nullptr) return {};
    note& n = notes_[sequence % k_places];
    if (n.sequence.load(std::memory_order_acquire) != sequence) return {};
    // The size is the child's word: a crashed one may have left anything.
    return {n.text, std::min<std::size_t>(n.size, k_text)};
}

}  // namespace cleanfork::templates
