// Threads of a template that a fork is not to leave behind.
//
// Libraries such as OpenBLAS start threads when they are loaded, end them in a handler of
// pthread_atfork(3) before each fork, and start them again when they are needed. So what
// counts is what is there in the midst of a fork, after those handlers.
#pragma once

#include <sys/types.h>

#include <string>

namespace cleanfork::templates {

class host;

// A fork by libc, with all at-fork handlers, that is looked at in its midst: by a handler that
// runs after those of all libraries that were loaded later than this one.
class judged_fork {
public:
    judged_fork() noexcept;
    judged_fork(const judged_fork&) = delete;
    judged_fork& operator=(const judged_fork&) = delete;
    ~judged_fork();

    // What fork(2) returns, in both processes. To be called once.
    pid_t fork() noexcept;
    // In both as well: no thread was left at the moment of the fork.
    [[nodiscard]] bool clean() const noexcept { return clean_; }
    // As a refusal says it: "1 extra thread: NAME".
    [[nodiscard]] std::string what() const;

private:
    bool clean_ = true;
};

// Tries a fork when this process has threads, so that libraries end theirs, and gives those
// that end by themselves a moment for that. True when the fork was clean in its midst. Costs
// one stat(2) without threads. Throws std::runtime_error when the child hangs in the handlers
// of a library: so would every child.
bool end_threads(host& h);

}  // namespace cleanfork::templates
