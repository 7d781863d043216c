// What goes between a client and a child that it has a lease of, without the forkserver and of
// fixed layout: one packet to the child over a socket, words from it over a pipe.
//
// The child has been told all of its call but what is here. It tells whether it runs the entry.
// Neither believes the other: what is checked is that a packet is of this version, whole, and
// points nowhere out of itself.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace cleanfork::ipc {

inline constexpr std::uint32_t k_lease_protocol = 1;

// A part of the packet, from its beginning.
struct lease_part {
    std::uint64_t at = 0;
    std::uint64_t count = 0;
};

// A descriptor of the packet, by index, and its number in the child.
struct lease_move {
    lease_part name;  // empty: it has none, and its number is what was asked for
    std::int32_t source = -1;
    std::int32_t target = -1;
};

struct lease_call {
    std::uint32_t protocol = k_lease_protocol;
    std::uint32_t tells_answer = 0;  // a word is wanted when the entry has returned
    std::int32_t payload = -1;       // index of a descriptor
    std::int32_t result = -1;
    std::uint64_t size = 0;  // of the packet
    lease_part entry;        // of bytes
    lease_part payload_bytes;
    lease_part arguments;  // of lease_part
    lease_part moves;      // of lease_move

    [[nodiscard]] std::string_view text(lease_part p) const noexcept {
        return {reinterpret_cast<const char*>(this) + p.at, p.count};
    }
    template <class T>
    [[nodiscard]] std::span<const T> items(lease_part p) const noexcept {
        return {reinterpret_cast<const T*>(reinterpret_cast<const char*>(this) + p.at), p.count};
    }
};
static_assert(std::is_trivially_copyable_v<lease_call>);
static_assert(sizeof(lease_call) == 88);

// What a client puts into one.
struct lease_content {
    struct move {
        std::string_view name;
        int source = -1;
        int target = -1;
    };
    std::string_view entry;
    std::string_view payload;
    std::vector<std::string_view> arguments;
    std::vector<move> moves;
    int payload_descriptor = -1;
    int result_descriptor = -1;
    bool tells_answer = false;
};
std::string pack_lease(const lease_content& c);

// `bytes` is aligned as new has it. Null when it is not whole, of another version, or refers to
// descriptors that did not come. Allocates nothing.
const lease_call* open_lease(std::span<const char> bytes, std::size_t descriptors) noexcept;

enum class lease_word_kind : std::uint32_t {
    begins = 1,    // the entry is about to run
    refused = 2,   // it does not: nothing of it has run, and nothing will
    returned = 3,  // with `code`; the text of its exception follows
};

// The child's word. Of an ordinary call there is the last one alone.
struct lease_word {
    std::uint32_t protocol = k_lease_protocol;
    lease_word_kind kind{};
    std::int32_t code = 0;
    std::uint32_t text_size = 0;
};
inline constexpr std::size_t k_max_lease_text = 1000;

struct lease_message {
    lease_word word;
    std::string text;
};
// The first of what was read from a pipe, in front of `bytes`, which are then without it. None:
// there is not all of one, or it is none.
std::optional<lease_message> take_lease_word(std::string_view& bytes);

}  // namespace cleanfork::ipc
