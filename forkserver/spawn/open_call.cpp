// The child's side of call_block.hpp: no allocation.
#include <algorithm>

#include "forkserver/spawn/call_block.hpp"

namespace cleanfork::spawn {

namespace {

// Within one block: what is at an offset, if it is all inside.
class block_bounds {
public:
    block_bounds(char* begin, std::size_t size) : begin_(begin), size_(size) {}

    template <class T>
    [[nodiscard]] bool holds(std::uint64_t at, std::uint64_t count) const noexcept {
        return at <= size_ && at % alignof(T) == 0 && count <= (size_ - at) / sizeof(T);
    }
    template <class T>
    [[nodiscard]] bool holds(block_part p) const noexcept {
        return holds<T>(p.at, p.count);
    }
    [[nodiscard]] std::uint64_t offset_of(const void* at) const noexcept {
        return static_cast<std::uint64_t>(static_cast<const char*>(at) - begin_);
    }
    // 0: it is null.
    template <class T>
    [[nodiscard]] bool relocate(T*& pointer, std::uint64_t count) const noexcept {
        const auto at = reinterpret_cast<std::uintptr_t>(pointer);
        if (at == 0) return count == 0;
        if (!holds<T>(at, count)) return false;
        pointer = reinterpret_cast<T*>(begin_ + at);
        return true;
    }
    // A string: it ends in the block, whose last byte is 0.
    template <class Char>
    [[nodiscard]] bool relocate_string(Char*& string) const noexcept {
        return string == nullptr || relocate(string, 1);
    }

private:
    char* begin_;
    std::size_t size_;
};

bool open_conduct(conduct_plan& c, const block_bounds& in, std::size_t room) noexcept {
    return in.relocate(c.cpus, c.cpus_size / sizeof(cpu_set_t)) &&
           in.relocate(c.limits, c.limit_count + room);
}

bool open_environment(plan& p, const block_bounds& in) noexcept {
    if (p.envp == nullptr || !in.relocate(p.envp, 1)) return false;
    for (auto e = const_cast<char**>(p.envp);; ++e) {
        if (!in.holds<char*>(in.offset_of(e), 1)) return false;
        if (*e == nullptr) return true;
        if (!in.relocate_string(*e)) return false;
    }
}

bool open_descriptor(int& index, std::span<const int> descriptors) noexcept {
    if (index == -1) return true;
    if (index < 0 || static_cast<std::size_t>(index) >= descriptors.size()) return false;
    index = descriptors[static_cast<std::size_t>(index)];
    return true;
}

bool open_plan(plan& p, const block_bounds& in, std::span<const int> descriptors) noexcept {
    if (p.candidates != nullptr || p.argv != nullptr) return false;
    if (!in.relocate(p.moves, p.move_count) || !open_environment(p, in) ||
        !in.relocate_string(p.cwd_path) || !in.relocate_string(p.listen_pid) ||
        !open_conduct(p, in, 1) || !open_conduct(p.caller_conduct, in, 0) ||
        !in.relocate(p.groups, p.group_count) ||
        !in.relocate(p.caller.groups, p.caller.group_count))
        return false;
    for (descriptor_move& m : std::span(p.moves, p.move_count))
        if (!open_descriptor(m.source, descriptors)) return false;
    return open_descriptor(p.cwd_fd, descriptors) && open_descriptor(p.cgroup_fd, descriptors);
}

}  // namespace

call_block* open_call(std::span<char> bytes, std::span<const int> descriptors) noexcept {
    if (bytes.size() < sizeof(call_block)) return nullptr;
    auto& b = *reinterpret_cast<call_block*>(bytes.data());
    if (b.protocol != k_template_protocol || b.plan_size != sizeof(plan) ||
        b.size != bytes.size() || bytes.back() != '\0')
        return nullptr;
    const block_bounds in(bytes.data(), bytes.size());
    if (!open_plan(b.steps, in, descriptors) || !in.holds<char>(b.entry) ||
        !in.holds<char>(b.payload_bytes) || !in.holds<char>(b.cgroup) ||
        !in.holds<block_part>(b.arguments) || !in.holds<named_move>(b.names))
        return nullptr;
    for (const block_part& a : b.items<block_part>(b.arguments))
        if (!in.holds<char>(a)) return nullptr;
    for (const named_move& n : b.items<named_move>(b.names))
        if (!in.holds<char>(n.name) || n.move >= b.steps.move_count) return nullptr;
    for (int* fd : {&b.payload, &b.result, &b.answer, &b.lease})
        if (!open_descriptor(*fd, descriptors)) return nullptr;
    return &b;
}

void settle_map(call_block& b, std::span<const int> held, int null_fd) noexcept {
    plan& p = b.steps;
    const std::span moves(p.moves, p.move_count);
    int free = held.empty() ? 0 : held.back() + 1;
    for (descriptor_move& m : moves) {
        if (m.source < 0) m.source = null_fd;
        free = std::max(free, m.target + 1);
    }
    for (const named_move& n : b.items<named_move>(b.names)) {
        descriptor_move& m = moves[n.move];
        if (std::binary_search(held.begin(), held.end(), m.target)) m.target = free++;
    }
    settle_moves(p);
}

void settle_moves(plan& p) noexcept {
    const std::span moves(p.moves, p.move_count);
    p.highest_target = 2;
    for (descriptor_move& m : moves) {
        p.highest_target = std::max(p.highest_target, m.target);
        m.collides = m.source != m.target &&
                     std::any_of(moves.begin(), moves.end(), [&](const descriptor_move& other) {
                         return other.target == m.source;
                     });
    }
}

}  // namespace cleanfork::spawn
