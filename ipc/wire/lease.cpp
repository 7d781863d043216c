#include "ipc/wire/lease.hpp"

#include <algorithm>
#include <cstring>

#include "ipc/wire/limits.hpp"

namespace cleanfork::ipc {

namespace {

// Grows at its end; what is aligned stays so, since a packet is as its memory is.
class lease_writer {
public:
    template <class T>
    lease_part put(const T* items, std::size_t count) {
        static_assert(std::is_trivially_copyable_v<T>);
        bytes_.resize((bytes_.size() + alignof(T) - 1) / alignof(T) * alignof(T));
        const std::size_t at = bytes_.size();
        bytes_.append(reinterpret_cast<const char*>(items), count * sizeof(T));
        return {at, count};
    }
    lease_part put(std::string_view text) { return put(text.data(), text.size()); }

    std::string take(lease_call header) && {
        header.size = bytes_.size();
        std::memcpy(bytes_.data(), &header, sizeof header);
        return std::move(bytes_);
    }

private:
    std::string bytes_ = std::string(sizeof(lease_call), '\0');
};

class lease_bounds {
public:
    lease_bounds(std::size_t size, std::size_t descriptors)
        : size_(size), descriptors_(static_cast<std::int64_t>(descriptors)) {}

    template <class T>
    [[nodiscard]] bool holds(lease_part p) const noexcept {
        return p.at <= size_ && p.at % alignof(T) == 0 && p.count <= (size_ - p.at) / sizeof(T);
    }
    [[nodiscard]] bool has(std::int32_t index) const noexcept {
        return index >= 0 && index < descriptors_;
    }
    [[nodiscard]] bool has_or_none(std::int32_t index) const noexcept {
        return index == -1 || has(index);
    }

private:
    std::size_t size_;
    std::int64_t descriptors_;
};

}  // namespace

std::string pack_lease(const lease_content& c) {
    lease_writer out;
    lease_call h;
    h.tells_answer = c.tells_answer ? 1 : 0;
    h.payload = c.payload_descriptor;
    h.result = c.result_descriptor;
    h.entry = out.put(c.entry);
    h.payload_bytes = out.put(c.payload);
    std::vector<lease_part> arguments;
    for (const std::string_view a : c.arguments) arguments.push_back(out.put(a));
    h.arguments = out.put(arguments.data(), arguments.size());
    std::vector<lease_move> moves;
    for (const lease_content::move& m : c.moves)
        moves.push_back({out.put(m.name), m.source, m.target});
    h.moves = out.put(moves.data(), moves.size());
    return std::move(out).take(h);
}

const lease_call* open_lease(std::span<const char> bytes, std::size_t descriptors) noexcept {
    if (bytes.size() < sizeof(lease_call)) return nullptr;
    const auto& c = *reinterpret_cast<const lease_call*>(bytes.data());
    if (c.protocol != k_lease_protocol || c.size != bytes.size()) return nullptr;
    const lease_bounds in(bytes.size(), descriptors);
    if (!in.holds<char>(c.entry) || c.entry.count > k_max_name ||
        !in.holds<char>(c.payload_bytes) || !in.holds<lease_part>(c.arguments) ||
        !in.holds<lease_move>(c.moves) || c.moves.count > k_max_descriptors ||
        !in.has_or_none(c.payload) || !in.has_or_none(c.result))
        return nullptr;
    for (const lease_part& a : c.items<lease_part>(c.arguments))
        if (!in.holds<char>(a)) return nullptr;
    for (const lease_move& m : c.items<lease_move>(c.moves))
        if (!in.holds<char>(m.name) || !in.has(m.source) || m.target < 0 || m.target > k_max_target)
            return nullptr;
    return &c;
}

std::optional<lease_message> take_lease_word(std::string_view& bytes) {
    lease_message m;
    if (bytes.size() < sizeof m.word) return std::nullopt;
    std::memcpy(&m.word, bytes.data(), sizeof m.word);
    const std::string_view rest = bytes.substr(sizeof m.word);
    if (m.word.protocol != k_lease_protocol || m.word.text_size > k_max_lease_text ||
        m.word.text_size > rest.size())
        return std::nullopt;
    m.text = rest.substr(0, m.word.text_size);
    bytes = rest.substr(m.word.text_size);
    return m;
}

}  // namespace cleanfork::ipc
