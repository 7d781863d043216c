// A message under construction, with the descriptors that go with it and what the
// caller keeps of them.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>
#include <google/protobuf/arena.h>

#include <array>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <span>
#include <vector>

#include "ipc/wire/limits.hpp"

namespace cleanfork::detail {

// The descriptors of one packet. Borrowed ones must stay open until it is sent.
class descriptor_list {
public:
    // The place of `fd` in the packet, counted from 1. A descriptor that is
    // there for the same purpose is not sent twice.
    std::uint32_t add(int fd, v1::DescriptorPurpose purpose);
    // The same, and closes it with the list.
    std::uint32_t add_owned(unique_fd fd, v1::DescriptorPurpose purpose);
    // Closes with the list a descriptor that was added as borrowed.
    void keep(unique_fd fd) { owned_.push_back(std::move(fd)); }

    [[nodiscard]] std::span<const int> numbers() const { return {numbers_.data(), count_}; }
    // E2BIG when more were added than a packet holds, EBADF for a negative number.
    [[nodiscard]] result<void> check() const;
    // What is there now; rollback() takes out what was added since.
    struct mark {
        std::size_t count, owned;
    };
    [[nodiscard]] mark position() const noexcept { return {count_, owned_.size()}; }
    void rollback(const mark& m) noexcept {
        count_ = m.count;
        refused_ = 0;
        owned_.erase(owned_.begin() + static_cast<std::ptrdiff_t>(m.owned), owned_.end());
    }
    // Closes the owned ones, once the packet was sent: the end of a pipe shows
    // only when nobody but the child holds the other one.
    void close_owned() noexcept { owned_.clear(); }
    // Says in `m` what each is for.
    void state_in(v1::ClientMessage& m) const;

private:
    std::array<int, ipc::k_max_descriptors> numbers_{};
    std::array<v1::DescriptorPurpose, ipc::k_max_descriptors> purposes_{};
    std::size_t count_ = 0;
    std::size_t refused_ = 0;
    std::vector<unique_fd> owned_;
};

// A message under construction. The arena starts on the stack, so that an
// ordinary request costs the heap nothing but its long strings.
class outgoing {
public:
    outgoing() : arena_(options()), message_(create_in(&arena_)) {}
    outgoing(const outgoing&) = delete;
    outgoing& operator=(const outgoing&) = delete;

    v1::ClientMessage& operator*() noexcept { return *message_; }
    v1::ClientMessage* operator->() noexcept { return message_; }
    [[nodiscard]] const v1::SpawnRequest& spawn() const noexcept { return message_->spawn(); }

    descriptor_list descriptors;
    // It says what the caller is where that differs from the forkserver; see follow_caller.hpp.
    bool follows_caller = false;

private:
    [[nodiscard]] google::protobuf::ArenaOptions options() noexcept {
        google::protobuf::ArenaOptions o;
        o.initial_block = block_.data();
        o.initial_block_size = block_.size();
        return o;
    }
    // Newer protobufs have only Create(), which in 3.21 does not make a message in an arena.
    template <class Arena>
    static v1::ClientMessage* create_in(Arena* arena) {
        if constexpr (requires { Arena::template CreateMessage<v1::ClientMessage>(arena); })
            return Arena::template CreateMessage<v1::ClientMessage>(arena);
        else
            return Arena::template Create<v1::ClientMessage>(arena);
    }

    alignas(16) std::array<char, 4096> block_;
    google::protobuf::Arena arena_;
    v1::ClientMessage* message_;
};

// What the caller keeps of one spawn: its ends of the pipes, and the memfd that
// a call's answer is written to.
struct parent_ends {
    unique_fd in, out, err, pty{};
    unique_fd result{};
    unique_fd words{};  // a pipe: ipc/wire/lease.hpp
};

}  // namespace cleanfork::detail
