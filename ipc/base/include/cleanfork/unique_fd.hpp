// An owned file descriptor. Moving transfers ownership; destruction closes.
//
// There is no conversion to int on purpose: a raw int is always borrowed, and
// the places where one is lent are visible as `.get()`.
#pragma once

#include <unistd.h>

#include <utility>

namespace cleanfork {

class unique_fd {
public:
    unique_fd() noexcept = default;

    // Takes ownership of `fd`; -1 means empty.
    explicit unique_fd(int fd) noexcept : fd_(fd) {}

    unique_fd(unique_fd&& other) noexcept : fd_(other.release()) {}
    unique_fd& operator=(unique_fd&& other) noexcept {
        if (this != &other) reset(other.release());
        return *this;
    }
    unique_fd(const unique_fd&) = delete;
    unique_fd& operator=(const unique_fd&) = delete;
    ~unique_fd() { reset(); }

    // The borrowed descriptor, -1 when empty.
    [[nodiscard]] int get() const noexcept { return fd_; }
    [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }

    // Gives ownership to the caller.
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

    // Closes what is held, then takes ownership of `fd`. errno is untouched by
    // the close of an empty descriptor; close(2) is not retried on EINTR, since
    // Linux has released the number by then.
    void reset(int fd = -1) noexcept {
        if (int old = std::exchange(fd_, fd); old >= 0) ::close(old);
    }

private:
    int fd_ = -1;
};

}  // namespace cleanfork
