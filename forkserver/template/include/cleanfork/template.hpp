// Be a template: a process that initializes once and from which children are forked.
//
//     const cleanfork::entry resize("resize", [](cleanfork::call& c) {
//         c.respond(shrink(c.payload()));
//         return 0;
//     });
//
//     int main(int argc, char** argv) {
//         cleanfork::template_main(argc, argv);  // returns unless started as a template
//         ...                                    // the application itself
//     }
//
// The forkserver starts the program (client::add_template) and every call runs an
// entry in a new child. Entries and hooks are registered before template_main(),
// by objects at namespace scope or by statements before it; registering is not
// thread-safe, since a template has one thread.
//
// In the template itself run the initialization hooks, once. They may take
// seconds, load libraries and map files, but must start no thread (but for those
// that a library ends by itself before a fork, pthread_atfork(3)) and leave no
// socket, epoll, timer, io_uring, device or locked file open: such a template is
// refused, since its children would have a part of it that does not work (fork(2)).
//
// A child has the state its caller asked for, like a program that was executed:
// the descriptors of the call, its environment and directory, default signal
// handling, an empty stdio, and random numbers of its own. Besides, what the
// initialization left open is there under its number: a regular file, a directory,
// a memfd, /dev/null and the like, each opened anew, so that no position is shared
// with other children (where that cannot be, it is the template's). Each use of the
// number of anything else fails with EBADF. It ends with
// the entry's return value as its exit code, by _exit(2) after the buffers were
// written: destructors of static objects and atexit handlers do not run, since
// they are the template's. An exception is told to the caller
// (process::error()), and the exit code is then 70.
#pragma once

#include <cleanfork/export.hpp>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cleanfork {

namespace templates {
struct task;
}

// What an entry was called with; of the child, valid until it ends.
class CLEANFORK_EXPORT call {
public:
    explicit call(const templates::task& t) noexcept : task_(t) {}
    call(const call&) = delete;
    call& operator=(const call&) = delete;

    [[nodiscard]] std::string_view entry() const noexcept;
    // The bytes the caller passed. When large they are a private mapping of the
    // caller's memory, which is not copied.
    [[nodiscard]] std::string_view payload() const noexcept;
    [[nodiscard]] const std::vector<std::string_view>& arguments() const noexcept;
    // The number of a descriptor by the name the caller gave it; the child owns it.
    // std::out_of_range, with the names there are, when there is none of that name.
    [[nodiscard]] int descriptor(std::string_view name) const;
    [[nodiscard]] const std::vector<std::pair<std::string_view, int>>& descriptors() const noexcept;

    // Appends to the answer. std::system_error when it cannot be written; without
    // effect when the caller wants none.
    void respond(std::string_view bytes) const;
    [[nodiscard]] bool answer_is_wanted() const noexcept;

private:
    const templates::task& task_;
};

// Registers what a child can run. The names of all templates' entries are apart.
class CLEANFORK_EXPORT entry {
public:
    // The function returns the exit code, 0 to 255.
    entry(std::string name, std::function<int(call&)> function);
};

// Runs once, in the template, before it is ready; in the order of registration.
// An exception fails the template, and its text is told to whoever added it.
class CLEANFORK_EXPORT initialization {
public:
    explicit initialization(std::function<void()> hook);
};

// Turns a child of this template into a template of its own, derived from this
// one: it shares the memory of this one, and initializes further.
class CLEANFORK_EXPORT initializer {
public:
    initializer(std::string name, std::function<void(call&)> function);
};

// Runs in every child, before its entry: for what a fork copies and must not be shared.
class CLEANFORK_EXPORT child_hook {
public:
    explicit child_hook(std::function<void()> hook);
};

// Seeds an engine of <random> anew in every child. rand(), random() and drand48()
// are taken care of.
template <class Engine>
void reseed_in_children(Engine& engine) {
    child_hook([&engine] {
        std::random_device device;
        std::seed_seq seed{device(), device(), device(), device(),
                           device(), device(), device(), device()};
        engine.seed(seed);
    });
}

// The children get no copy of these whole pages (MADV_DONTFORK): what only the
// template needs need not be in the page tables a fork copies. Access from a
// child is SIGSEGV. std::system_error when the kernel refuses.
CLEANFORK_EXPORT void keep_from_children(void* begin, std::size_t size);

// Of what the initialization left open: closed in the children, whose own files may get
// the number. To be called in the template, from an initialization hook.
CLEANFORK_EXPORT void close_in_children(int descriptor);

// True in a process that was started to be a template.
CLEANFORK_EXPORT bool started_as_template() noexcept;

// As the first statement of main(): in a process started as a template it
// initializes, serves and never returns; else it returns at once.
CLEANFORK_EXPORT void template_main(int argc, char** argv);

struct early_options {
    std::string name = "self";  // of the template
    std::string daemon{};       // cleanforkd; empty: found as launch_options::daemon says
    std::vector<std::string> daemon_args{};
    int log_fd = -1;  // where forkserver and template write to; borrowed. -1: /dev/null
};

// As the first statement of main(): starts a private forkserver and forks this
// program into its template `name`, as it is now. Gives the socket for
// cleanfork::attach(); forkserver and template end when that is closed.
//
//     int main() {
//         cleanfork::client c = cleanfork::attach(cleanfork::start_early());
//         c.call("self", "resize", image);
//
// Initialization hooks run in the template, not here. Refused with step::clean,
// and the names of the threads, when this process has more than one thread, or
// children or timers. Such a template cannot be reloaded, nor started again.
// start_early() throws std::runtime_error with the failure's message.
CLEANFORK_EXPORT unique_fd start_early(const early_options& options = {});
CLEANFORK_EXPORT result<unique_fd> try_start_early(const early_options& options = {});

}  // namespace cleanfork
