// What a template is made of besides the loop: a C++ program or a Python interpreter.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cleanfork::templates {

// What a child is to do. All of it lives as long as the process.
struct task {
    std::string_view entry;
    std::string_view payload;
    std::vector<std::string_view> arguments;
    std::vector<std::pair<std::string_view, int>> descriptors;  // by name
    int result_fd = -1;                                         // -1: no answer is wanted
};

// Called by the loop and by its children; each in a process with one thread.
class host {
public:
    virtual ~host() = default;

    // In the template.
    [[nodiscard]] virtual std::vector<std::string> entries() const = 0;
    // Before each fork: nothing may stay in a buffer that the child would write again.
    virtual void before_fork() = 0;
    // After it, in the template again; also when the fork failed.
    virtual void after_fork() {}
    // For so long, to threads that are about to end: what they need to run is theirs.
    virtual void let_others_run(const timespec& time) { ::nanosleep(&time, nullptr); }
    // Once, when it is initialized, unless it has threads: may fork a child to learn from it.
    virtual void rehearse() {}

    // In the child, in this order. The first at once after the fork.
    virtual void after_fork_in_child() {}
    // In one that is forked ahead of its request: time for what would delay that.
    virtual void before_parking() {}
    // Whether handlers that were installed in the template stay in its children. If not,
    // every signal gets its default action back.
    [[nodiscard]] virtual bool keeps_handlers() const { return false; }
    // Of what the initialization left open, what children do not have: see kept_files.hpp.
    [[nodiscard]] virtual std::vector<int> closed_descriptors() const { return {}; }
    [[nodiscard]] virtual bool has_entry(std::string_view name) const = 0;
    [[nodiscard]] virtual bool has_initializer(std::string_view name) const = 0;
    // The process is as its caller wants it: reseed what a fork copies.
    virtual void in_child() = 0;
    // Runs the entry and gives the exit code. May throw: the text goes to the caller.
    virtual int run(const task& t) = 0;
    // Turns the child into a derived template. May throw: the template has then failed.
    virtual void derive(const task& t) = 0;
    // The last words: writes out every buffer. The process ends without destructors.
    virtual void flush() = 0;
};

}  // namespace cleanfork::templates
