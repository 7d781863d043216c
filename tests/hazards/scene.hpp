// What the cases share: a job that runs in a child of plain fork or in a child of
// cleanfork, by the same code, and the verdict on each try.
//
// A job reaches what belongs to the process through a global that is made at its
// first use. In a copy of the parent that has happened already; elsewhere it is
// made from what was passed to the child. That is all the difference there is.
#pragma once

#include <atomic>
#include <chrono>
#include <cleanfork/client.hpp>
#include <cleanfork/exit_status.hpp>
#include <cleanfork/unique_fd.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace hazards {

using namespace std::chrono_literals;
using milliseconds = std::chrono::milliseconds;

// Longer than this, and asleep, is a hang. A job here takes milliseconds.
constexpr milliseconds k_hang = 1500ms;

// How long to wait for what a plain fork may have made impossible: `short_one` there, and
// long enough otherwise that a busy machine is not taken for a hang. In parent and child.
milliseconds bound(milliseconds short_one);

// What a child gets: a word, and descriptors by name (those of the parent under plain fork).
struct task {
    std::string word{};
    std::map<std::string, int> fds{};
    [[nodiscard]] int fd(const std::string& name) const { return fds.at(name); }
};

// Something a child can do; also an entry of this program as a template. Returns the exit code.
class job {
public:
    job(std::string name, int (*function)(const task&));
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    int operator()(const task& t) const { return function_(t); }

private:
    std::string name_;
    int (*function_)(const task&);
};

// How a child of plain fork ends once its job is done. One of cleanfork's ends its own way.
enum class leave { with_exit, with__exit };

struct ending {
    bool hung = false;
    std::string where{};  // the system call a hung child was in
    cleanfork::exit_status status{};
    [[nodiscard]] bool success() const { return !hung && status.success(); }
    [[nodiscard]] std::string text() const;
};

// A started child. Owns it: killed and reaped with this object.
class child {
public:
    explicit child(pid_t forked);
    explicit child(cleanfork::process called) : called_(std::move(called)) {}
    child(child&& other) noexcept;
    child& operator=(child&&) = delete;
    ~child();

    [[nodiscard]] int pidfd() const noexcept {
        return forked_ > 0 ? pidfd_.get() : called_.native_handle();
    }
    [[nodiscard]] pid_t id() const noexcept { return forked_ > 0 ? forked_ : called_.id(); }
    void signal(int number) const;
    // One that has not ended by then is killed, and was hung.
    ending wait_until(std::chrono::steady_clock::time_point deadline);
    ending wait(milliseconds short_one = k_hang) {
        return wait_until(std::chrono::steady_clock::now() + bound(short_one));
    }

private:
    cleanfork::exit_status reap();

    pid_t forked_ = 0;
    cleanfork::unique_fd pidfd_;
    cleanfork::process called_;
};

enum class way { fork, posix_spawn, cleanfork };

// What was wrong with a try: in one word, for counting, and in full.
struct damage {
    std::string kind;
    std::string evidence;
};
using verdict = std::optional<damage>;

// One run of a case, in one way. Verdicts are told as they come.
class scene {
public:
    scene(way w, unsigned tries, int results) : way_(w), tries_(tries), results_(results) {
        prepare();
    }

    [[nodiscard]] way by() const noexcept { return way_; }
    [[nodiscard]] bool forks() const noexcept { return way_ == way::fork; }
    [[nodiscard]] unsigned tries() const noexcept { return tries_; }
    [[nodiscard]] const cleanfork::client& forkserver() const noexcept { return forkserver_; }

    child start(const job& j, const task& t = {}, leave how = leave::with__exit) const;
    void tell(const verdict& v) const;
    void figure(const std::string& name, double value) const;

    // Each try is told.
    void each(const std::function<verdict(unsigned)>& once) const {
        for (unsigned i = 0; i < tries_; ++i) tell(once(i));
    }
    // Many children at a time: those that hang only sleep.
    void all(const job& j, const task& t, unsigned at_once = 100) const;
    // Ends this process as it is, when what is in it may not end by itself any more.
    [[noreturn]] void end_here() const;

private:
    void prepare();

    way way_;
    unsigned tries_;
    int results_;
    cleanfork::client forkserver_;
};

struct hazard {
    int group;
    std::string name, title;
    unsigned quick, full;  // tries
    void (*run)(const scene&);
    // Not 0: each try in a process of its own, which may hang or crash; so many at a time.
    unsigned alone = 0;
};

class registration {
public:
    explicit registration(hazard h);
    static std::vector<hazard>& all();
};

// Threads that do something over and over until this is destroyed.
class busy {
public:
    busy(unsigned count, std::function<void(unsigned)> again) : again_(std::move(again)) {
        for (unsigned i = 0; i < count; ++i)
            threads_.emplace_back([this, i] {
                while (!stop_) again_(i);
            });
    }
    busy(const busy&) = delete;
    busy& operator=(const busy&) = delete;
    ~busy() {
        stop_ = true;
        threads_.clear();
    }

private:
    std::function<void(unsigned)> again_;
    std::atomic<bool> stop_ = false;
    std::vector<std::jthread> threads_;
};

// What `function` returns, or nothing when it hangs: it then stays in a thread of its own.
std::optional<std::string> bounded(std::function<std::string()> function, milliseconds limit);

// Work that takes a moment and that no compiler leaves out.
void spin(std::chrono::microseconds duration);

// ---- files and pipes

struct pipe_ends {
    cleanfork::unique_fd read, write;
};
pipe_ends make_pipe();
pipe_ends make_socket_pair();              // both ends can do both
cleanfork::unique_fd make_file();          // has no name, and is gone with its last descriptor
cleanfork::unique_fd opened_anew(int fd);  // the same file, with an offset of its own
std::string content_of(int file);
// What there is to read until the end, or until `patience` has passed.
std::string read_all(int fd, milliseconds patience = bound(k_hang));
bool read_exactly(int fd, void* to, std::size_t size);  // false at an end or an error
void write_all(int fd, std::string_view text);
bool readable(int fd, milliseconds patience);
std::size_t count(const std::string& text, const std::string& what);

}  // namespace hazards
