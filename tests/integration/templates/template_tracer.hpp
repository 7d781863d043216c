// Kills a template, or the child it forks next, at any one of its system calls.
#pragma once

#include <sys/types.h>

#include <cleanfork/unique_fd.hpp>
#include <string>

namespace cleanfork::testing {

// A process of its own, which traces: the test goes on meanwhile.
class tracer {
public:
    enum class victim { the_template, its_next_child };
    // The victim is killed at its stop number `at`, counted from 1, before and after each
    // system call.
    tracer(pid_t of_template, victim whom, int at);
    ~tracer();
    tracer(const tracer&) = delete;
    tracer& operator=(const tracer&) = delete;

    // Empty, else why nothing is traced: it is not permitted here.
    [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
    // Waits until the victim was killed, or went on to its end undisturbed (of a template: until
    // it has reaped a child and waits for orders again).
    [[nodiscard]] bool killed();

private:
    [[nodiscard]] char next() const;

    pid_t pid_ = -1;
    unique_fd reports_;
    std::string problem_;
};

}  // namespace cleanfork::testing
