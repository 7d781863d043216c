// One right to run, held by a call's child and here: who takes it decides. So a call
// whose reply did not come is not run later, or is known to have begun.
#pragma once

#include <sys/types.h>

#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <optional>

namespace cleanfork::python {

// An eventfd: 1 is the right; a child that has taken it leaves its pid, which is never 1.
class claim {
public:
    claim() noexcept = default;  // of nobody
    // Raises an error of Python. With the GIL.
    static claim made();

    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    // nullopt: it is ours, and the call will never run; also when there is none. Else the
    // pid of the child, 0 if it has not told. With the GIL, which is let go of meanwhile.
    [[nodiscard]] std::optional<pid_t> taker() const;

private:
    [[nodiscard]] std::uint64_t take() const;

    unique_fd fd_;
};

}  // namespace cleanfork::python
