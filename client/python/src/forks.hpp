// os.fork() and other forks of the program: what belongs to a parent must not
// be used in its child, not even destroyed, since its locks are copies.
//
// Thread-safety: all functions may be called from many threads at once.
#pragma once

#include <memory>
#include <utility>

namespace cleanfork::python {

// Counts the forks between this process and the one that loaded the module.
unsigned fork_generation() noexcept;

// Installs the handlers of pthread_atfork(3), once.
void watch_forks();

// A socket that a forked child closes at once: it would else keep its parent's
// forkserver waiting for a session that has no owner any more. Borrowed.
class parent_only_socket {
public:
    explicit parent_only_socket(int fd);
    parent_only_socket(const parent_only_socket&) = delete;
    parent_only_socket& operator=(const parent_only_socket&) = delete;
    ~parent_only_socket();

    [[nodiscard]] int get() const noexcept { return fd_; }

private:
    int fd_;
    unsigned made_in_ = fork_generation();
};

// Owns a T of this process. In a child of a fork it is let go of, not destroyed.
template <class T>
class not_for_children {
public:
    not_for_children() noexcept = default;
    explicit not_for_children(T&& value) : value_(std::make_unique<T>(std::move(value))) {}
    not_for_children(not_for_children&&) noexcept = default;
    not_for_children& operator=(not_for_children&&) = delete;
    ~not_for_children() { reset(); }

    [[nodiscard]] bool foreign() const noexcept { return made_in_ != fork_generation(); }
    // Null when there is none; do not follow it when foreign().
    [[nodiscard]] T* get() const noexcept { return value_.get(); }
    void reset() noexcept {
        if (foreign()) [[maybe_unused]]
            T* const leaked = value_.release();
        value_.reset();
    }

private:
    unsigned made_in_ = fork_generation();
    std::unique_ptr<T> value_;
};

}  // namespace cleanfork::python
