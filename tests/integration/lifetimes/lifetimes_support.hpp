// Children that tell what they are sent, and cgroups of a test's own.
#pragma once

#include <optional>
#include <string>

#include "tests/integration/hostile/hostile_session.hpp"

namespace cleanfork::testing {

// The lines of a pipe.
class line_reader {
public:
    explicit line_reader(unique_fd fd) : fd_(std::move(fd)) {}
    // The next line without its end; empty at the end of the pipe.
    std::string next();
    // True when nothing follows: the last process that could write has ended.
    bool at_end() { return next().empty(); }

private:
    unique_fd fd_;
    std::string rest_;
};

// A cgroup v2 of its own, reached without any mount; killed and removed at the end.
class test_cgroup {
public:
    // Empty where there is no cgroup v2 to be had, with the reason printed.
    static std::optional<test_cgroup> create();
    test_cgroup(test_cgroup&&) = default;
    test_cgroup& operator=(test_cgroup&&) = delete;
    ~test_cgroup();

    [[nodiscard]] int descriptor() const noexcept { return directory_.get(); }
    // Waits until nobody is in it.
    [[nodiscard]] bool empties() const;
    [[nodiscard]] std::string read(const char* file) const;

private:
    test_cgroup(unique_fd root, std::string name, unique_fd directory)
        : root_(std::move(root)), name_(std::move(name)), directory_(std::move(directory)) {}

    unique_fd root_;
    std::string name_;
    unique_fd directory_;
};

// lifetimes_child with these arguments (see tests/helpers), and what it says.
struct telling_child {
    live_child child;
    line_reader lines;
};
// Back when as many as `ready` have said that they are.
telling_child spawn_telling(raw_session& s, std::initializer_list<std::string> arguments,
                            const v1::Lifetime& lifetime, int ready = 1,
                            const test_cgroup* cgroup = nullptr);

// A grace that comes to its end, but not before a child has said that it got its signal.
inline const auto k_short_ms =
    static_cast<std::uint32_t>(test::scaled(std::chrono::milliseconds(200)).count());

v1::Lifetime ends_with(int signal, std::uint32_t grace_ms,
                       v1::SignalTarget target = v1::SIGNAL_TARGET_PROCESS);
v1::Lifetime kept();

// Asks for the exit of another session's child; the answer is for exit_of().
std::uint64_t post_wait(raw_session& s, std::uint64_t child);
v1::Exit exit_of(raw_session& s, std::uint64_t wait_request);

}  // namespace cleanfork::testing
