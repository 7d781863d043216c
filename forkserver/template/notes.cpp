#include "forkserver/template/notes.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace cleanfork::templates {

namespace {

constexpr std::size_t k_text = 1000;
constexpr std::uint32_t k_unused = ~0U;  // in place of a size: of a lease
// Of so many children that end with an exception at once, each has a place.
constexpr std::size_t k_places = 1024;

}  // namespace

// The sequences stand apart: to look for a note that is not there touches no page of texts.
struct notes::board {
    struct note {
        std::uint32_t size;
        char text[k_text];
    };
    std::atomic<std::uint64_t> sequence[k_places];
    note notes[k_places];
};

// Pages are taken when they are written to: a quiet template costs nothing.
notes::notes() noexcept {
    void* at = ::mmap(nullptr, sizeof(board), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at != MAP_FAILED) board_ = static_cast<board*>(at);
}

notes::~notes() {
    if (board_ != nullptr) ::munmap(board_, sizeof(board));
}

void notes::leave(std::uint64_t sequence, std::string_view text) noexcept {
    if (board_ == nullptr) return;
    board::note& n = board_->notes[sequence % k_places];
    n.size = static_cast<std::uint32_t>(std::min(text.size(), k_text));
    std::memcpy(n.text, text.data(), n.size);
    board_->sequence[sequence % k_places].store(sequence, std::memory_order_release);
}

void notes::leave_unused(std::uint64_t sequence) noexcept {
    if (board_ == nullptr) return;
    board_->notes[sequence % k_places].size = k_unused;
    board_->sequence[sequence % k_places].store(sequence, std::memory_order_release);
}

notes::note notes::take(std::uint64_t sequence) {
    if (board_ == nullptr ||
        board_->sequence[sequence % k_places].load(std::memory_order_acquire) != sequence)
        return {};
    const board::note& n = board_->notes[sequence % k_places];
    if (n.size == k_unused) return {.text = {}, .is_unused = true};
    // The size is the child's word: a crashed one may have left anything.
    return {.text = {n.text, std::min<std::size_t>(n.size, k_text)}};
}

}  // namespace cleanfork::templates
