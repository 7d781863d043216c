// Would forking from a process be safe, and if not, why?
//
// A fork copies one thread, all of the memory and every descriptor. What follows
// from that for each hazard is in docs/audit.md. Everything is read from /proc, so
// the process is neither stopped nor asked; it may change while it is looked at.
//
// It takes what PTRACE_MODE_READ_FSCREDS of ptrace(2) takes: the user of the process
// and all of its capabilities, or CAP_SYS_PTRACE. One's own process is always allowed.
#pragma once

#include <sys/types.h>

#include <cleanfork/failure.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cleanfork::ipc {

// The step of every failure of an audit.
inline constexpr step k_audit_step = step::audit;

// In the order of reports. The names of to_string() appear in JSON: only add to them.
enum class hazard {
    thread,  // other than the main one
    socket,
    epoll,
    eventfd,
    timerfd,
    signalfd,
    inotify,  // and fanotify
    io_uring,
    userfaultfd,
    perf_event,
    device,            // open or mapped, DMA buffers too; not terminals, /dev/null and the like
    other_descriptor,  // a kernel object this version does not know
    aio,               // a context of io_setup(2)
    posix_timer,
    child,
    pending_signal,
    file_lock,
};
std::string_view to_string(hazard h) noexcept;
// What becomes of it in a fork, and what to do about it; whole sentences.
std::string_view consequence(hazard h) noexcept;
std::string_view remedy(hazard h) noexcept;

struct finding {
    hazard kind = hazard::other_descriptor;
    int number = -1;   // thread, descriptor, timer, child or signal; -1: a mapping
    std::string name;  // of the thread or child, link of the descriptor, path, SIGUSR1
    std::string what;  // all of it for a person: "7 anon_inode:[eventpoll]"
    // Of a thread: the object file whose code it was started to run, as far as that can be seen.
    std::string library{};
};

// A file that a fork does not break, though its position is that of both processes.
struct shared_position {
    int descriptor = -1;
    std::uint64_t position = 0;
    std::string path;
};

struct audit_report {
    pid_t pid = 0;  // of the process, also when one of its threads was asked about
    std::string name;
    std::size_t threads = 0;      // all of them
    std::size_t descriptors = 0;  // all of them, the harmless and the allowed too
    std::vector<finding> findings;
    // Of audit() alone, with its locks.
    std::vector<shared_position> positions{};
    // Of a proof alone: signals that are caught or ignored, bit n - 1 for signal n.
    std::uint64_t changed_signals = 0;

    [[nodiscard]] bool safe() const noexcept { return findings.empty(); }
};

struct audit_options {
    bool descriptors = true;
    bool locks = true;  // of the descriptors that were looked at
    bool mappings = true;
    bool timers = true;
    bool children = true;
    bool signals = true;
    // Known to the caller and never a finding, whatever they are.
    std::span<const int> allowed_descriptors = {};
    std::span<const pid_t> allowed_children = {};
};

// Looks at process `pid`. Fails with ESRCH when there is none or it has ended, and
// with EACCES when it must not be looked at; the object is the file in /proc.
result<audit_report> audit(pid_t pid, const audit_options& options = {});

// One line: "2 extra threads: grpc_global_tim, event_engine; 1 epoll descriptor (7)".
// Names are as the process chose them: mind control characters.
std::string summary(const audit_report& report);

}  // namespace cleanfork::ipc
