// A call made ready, as its child gets it: a plan and what belongs to it in one block of bytes,
// which the child reads where it lies. It parses nothing and allocates nothing: every page that a
// forked child writes is a page fault and a copy.
//
// The forkserver makes it and is believed; what is checked is that the block is of this version,
// whole, and points nowhere out of itself.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <cleanfork/failure.hpp>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "forkserver/spawn/plan.hpp"

namespace cleanfork::spawn {

// Of a call_block, the orders and the reports of forkserver/template/order.hpp: forkserver and
// template must have the same, which a template tells when it is ready.
inline constexpr std::uint32_t k_template_protocol = 4;

// A part of the block, from its beginning.
struct block_part {
    std::uint64_t at = 0;
    std::uint64_t count = 0;
};

struct named_move {
    block_part name;
    std::uint64_t move = 0;  // an index into the plan's moves
};

struct call_block {
    std::uint32_t protocol = k_template_protocol;
    std::uint32_t plan_size = sizeof(plan);
    std::uint64_t size = 0;     // of the whole block; its last byte is 0
    std::uint64_t becomes = 0;  // a generation: the child is to be its derived template

    // Until open_call() its pointers are offsets from the beginning, and its descriptors are
    // indexes into those that came with the block; -1: none, of a move /dev/null. There is room
    // for one limit more.
    plan steps;
    bool groups_asked = false;  // else they are set only by a child that is privileged

    int payload = -1;  // descriptors too
    int result = -1;
    int answer = -1;             // a pipe, for the word that the entry has returned
    int lease = -1;              // the channel on which the child waits for its call
    std::int64_t lease_of = -1;  // the user who alone, with root, may send it; -1: anybody
    block_part entry;            // of bytes
    block_part payload_bytes;
    block_part cgroup;     // its path, for errors
    block_part arguments;  // of block_part
    block_part names;      // of named_move

    [[nodiscard]] std::string_view text(block_part p) const noexcept {
        return {reinterpret_cast<const char*>(this) + p.at, p.count};
    }
    template <class T>
    [[nodiscard]] std::span<T> items(block_part p) noexcept {
        return {reinterpret_cast<T*>(reinterpret_cast<char*>(this) + p.at), p.count};
    }
};
static_assert(std::is_trivially_copyable_v<call_block>);
static_assert(std::is_trivially_destructible_v<call_block>);

// A block that does not fit into a packet: this is sent, and before the other descriptors one
// that has it (a sealed memfd, or a pipe).
struct large_call {
    std::uint32_t protocol = k_template_protocol;
    std::uint32_t plan_size = 0;  // what tells it from a block
    std::uint64_t size = 0;
};

// For the forkserver.
struct packed_call {
    std::string bytes;
    std::vector<int> descriptors;  // borrowed: of the request, its base, and `cgroup`
    unique_fd cgroup{};
};

// What is no part of the request.
struct call_facts {
    std::uint64_t becomes = 0;
    int lease = -1;  // borrowed
    std::int64_t lease_of = -1;
};

// Validates the call as prepare() does. `request` stays where it is, as it is.
result<packed_call> pack_call(std::unique_ptr<v1::SpawnRequest>& request,
                              const std::vector<int>& purposes, shared_descriptors descriptors,
                              std::shared_ptr<const session_base> base, const call_facts& facts);

// For the child: checks it, and makes offsets pointers and indexes `descriptors`. `bytes` is
// aligned as new has it, and stays. Null when it is not whole or of another version.
call_block* open_call(std::span<char> bytes, std::span<const int> descriptors) noexcept;

// Descriptors that come by name have any number: they make way for those in `held`, which are
// sorted, and after that the plan's map is final. A number that was asked for is the caller's.
void settle_map(call_block& b, std::span<const int> held, int null_fd) noexcept;
// Its part for the moves of any plan: what is the highest target, and who must make way first.
void settle_moves(plan& p) noexcept;

}  // namespace cleanfork::spawn
