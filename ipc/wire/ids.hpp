// The numbers that client and forkserver name things by. Each kind is a type of its
// own: swapping two of them does not compile. 0 names nothing.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace cleanfork::ipc {

template <class Kind>
class id {
public:
    constexpr id() noexcept = default;
    explicit constexpr id(std::uint64_t value) noexcept : value_(value) {}

    [[nodiscard]] constexpr std::uint64_t value() const noexcept { return value_; }
    // False for the one that names nothing.
    explicit constexpr operator bool() const noexcept { return value_ != 0; }
    friend constexpr auto operator<=>(id, id) noexcept = default;

    // This one, and the next from now on.
    constexpr id take_next() noexcept { return id(value_++); }

private:
    std::uint64_t value_ = 0;
};

// A session, by the forkserver that opened it.
using session_id = id<struct session_kind>;
// A request, by the client that sent it; unique among those of its session without a reply.
using request_id = id<struct request_kind>;
// A child, by its forkserver.
using child_id = id<struct child_kind>;

}  // namespace cleanfork::ipc

template <class Kind>
struct std::hash<cleanfork::ipc::id<Kind>> {
    std::size_t operator()(cleanfork::ipc::id<Kind> i) const noexcept {
        return std::hash<std::uint64_t>()(i.value());
    }
};
