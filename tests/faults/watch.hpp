// Watches processes call by call: counts the calls of each role, and at one of them makes it fail
// or kills its process.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cleanfork/unique_fd.hpp>
#include <compare>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tests/faults/notices.hpp"

namespace cleanfork::faults {

enum class role {
    daemon,
    child,           // of the daemon, until its program runs
    template_,       // from its main()
    template_child,  // up to the end of its entry
    client,          // a program with the client library
    launcher,        // what that forks to launch a private forkserver
    log_writer,
    command,
    program,  // somebody else's
};
std::string_view to_string(role r);
std::optional<role> role_of_name(std::string_view name);

// The k-th time, from 1, that a role makes a call while it counts.
struct point {
    role who;
    int call;
    int k;
    auto operator<=>(const point&) const = default;
};

// At that point: the call fails with error_number, or 0: its process is killed before it.
struct fault {
    point at;
    int error_number = 0;
};
std::string to_string(const fault& f);

// What a watched process tells by prctl(k_tell, ...), which is no call of the kernel's.
inline constexpr int k_tell = 0x46415553;
enum class told { count_from_here = 1, count_to_here };
void tell(told what);

class watch {
public:
    using clock = std::chrono::steady_clock;

    // The process is to be one from be_watched() on.
    void add(unique_fd listener, pid_t pid, role r);
    // Forgets what has ended.
    void tidy();
    void close_all();

    // Counts from now on, or from when a process tells; `to_inject` may be nothing.
    void arm(std::optional<fault> to_inject, bool from_now);
    void disarm() { count(false); }
    [[nodiscard]] bool injected() const { return injected_; }
    // Each time that counting begins or ends.
    std::function<void(bool begins)> on_count;
    // When a forkserver makes its first call of this kind while its calls count.
    int awaited_call = -1;
    std::function<void()> on_awaited;
    // The calls since arm(), each with the name of what it was about, as far as known.
    struct seen {
        point at;
        std::array<std::uint64_t, 6> args;
        std::string about;
    };
    [[nodiscard]] const std::vector<seen>& record() const { return record_; }

    // Answers notices until `fd` is readable (-1: never), `done` is true, or it is too late: false.
    bool serve(int fd, clock::time_point until, const std::function<bool()>& done = {});
    // The forkserver waits in its loop, and nothing has come since.
    [[nodiscard]] bool is_idle(pid_t daemon) const;
    // By its last call, for a process that hangs.
    [[nodiscard]] std::string where_all_are() const;

private:
    struct watched {
        role who = role::program;
        bool in_main = false;  // past the dynamic linker
        bool is_executing = false;
        bool makes_child = false;
        int last_call = -1;
        std::uint64_t last_fd = 0;
    };

    void count(bool begins);
    watched& process(pid_t pid);
    void begin_program(pid_t pid, watched& w);
    void take(int listener);
    bool act(int listener, const notice& n, const watched& w);
    std::string about(const notice& n, role who) const;

    std::vector<unique_fd> listeners_;
    std::unordered_map<pid_t, watched> processes_;
    std::optional<fault> fault_;
    bool counting_ = false;
    bool injected_ = false;
    std::map<std::pair<role, int>, int> counts_;
    std::vector<seen> record_;
};

}  // namespace cleanfork::faults
