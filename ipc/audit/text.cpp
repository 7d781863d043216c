// What an audit says to people.
#include <array>
#include <csignal>
#include <cstring>

#include "ipc/audit/parts.hpp"

namespace cleanfork::ipc {

namespace {

struct hazard_text {
    std::string_view name;
    std::string_view one, many;  // "epoll descriptor", as it is counted in a summary
    std::string_view consequence, remedy;
};

constexpr std::string_view k_close = "close it before, or open it in the child after the fork";
constexpr std::string_view k_shared = "it stays the same object in parent and child";

// By the number of the hazard.
constexpr std::array<hazard_text, 17> k_texts{{
    {"thread", "extra thread", "extra threads",
     "only the thread that forks is in the child; locks the others hold stay locked there for ever",
     "fork before the first thread starts, or end the threads before; a library can end its own "
     "in a handler of pthread_atfork(3)"},
    {"socket", "socket", "sockets",
     "parent and child own one connection: what one reads is lost to the other, and no close of "
     "one is seen by the peer",
     "close it before, or pass it to the one child that is to have it"},
    {"epoll", "epoll descriptor", "epoll descriptors",
     "parent and child share one set of watched files: each takes events of the other, and "
     "changes what it watches",
     k_close},
    {"eventfd", "eventfd", "eventfds",
     "one counter is shared: a wake-up meant for one process is taken by the other", k_close},
    {"timerfd", "timerfd", "timerfds",
     "one timer is shared: each expiry is read once, by either, and setting it sets it for both",
     k_close},
    {"signalfd", "signalfd", "signalfds",
     "it reads the signals of the process that reads, and an epoll that holds it watches those of "
     "the parent",
     k_close},
    {"inotify", "inotify descriptor", "inotify descriptors",
     "one queue is shared: an event read by one process is lost to the other", k_close},
    {"io_uring", "io_uring", "io_urings",
     "the rings are shared memory of both; a request of the child is carried out for the parent",
     k_close},
    {"userfaultfd", "userfaultfd", "userfaultfds",
     "it handles the faults of the parent's memory, not of the child's, which may hang on one",
     k_close},
    {"perf_event", "perf event", "perf events", k_shared, k_close},
    {"device", "device", "devices",
     "a driver keeps its state by process or by open file: contexts of a GPU do not survive a "
     "fork, and both processes drive the same one",
     "open devices in the child; initialize GPU libraries after the fork"},
    {"other_descriptor", "unknown kernel object", "unknown kernel objects", k_shared, k_close},
    {"aio", "asynchronous I/O context", "asynchronous I/O contexts",
     "the child does not have it, nor the results of what was submitted",
     "io_destroy(2) it before, or set it up after the fork"},
    {"posix_timer", "POSIX timer", "POSIX timers",
     "the child does not have it: what waits for it waits for ever",
     "delete it before, or create it in the child"},
    {"child", "child", "children", "it is no child of the new process, which cannot wait for it",
     "wait for it before, or start it later"},
    {"pending_signal", "pending signal", "pending signals", "the child does not get it",
     "handle or wait for it before the fork"},
    {"file_lock", "file lock", "file locks",
     "a record lock (POSIX) is not the child's; a lock of the open file (FLOCK, OFDLCK) is shared, "
     "and lasts until both have closed it or one has unlocked it",
     "unlock it before, or take it in the child"},
}};

const hazard_text& text_of(hazard h) noexcept { return k_texts[static_cast<std::size_t>(h)]; }

// What tells the findings of this kind apart, in a summary.
bool is_named_by_number(const finding& f) {
    return f.number >= 0 && (f.kind == hazard::socket || f.kind == hazard::epoll ||
                             (f.kind >= hazard::eventfd && f.kind <= hazard::perf_event));
}

std::string summary_of(std::span<const finding> group) {
    constexpr std::size_t k_most_named = 8;
    const hazard_text& text = text_of(group.front().kind);
    std::string line = std::to_string(group.size()) + " ";
    line += group.size() == 1 ? text.one : text.many;
    bool numbers = true;
    for (const finding& f : group) numbers = numbers && is_named_by_number(f);
    std::string_view before = numbers ? " (" : ": ";
    for (const finding& f : group.first(std::min(group.size(), k_most_named))) {
        line += before;
        line += numbers ? std::to_string(f.number) : f.name.empty() ? f.what : f.name;
        if (!f.library.empty()) line += " of " + f.library.substr(f.library.rfind('/') + 1);
        before = ", ";
    }
    if (group.size() > k_most_named)
        line += " and " + std::to_string(group.size() - k_most_named) + " more";
    return numbers ? line + ")" : line;
}

}  // namespace

std::string_view to_string(hazard h) noexcept { return text_of(h).name; }
std::string_view consequence(hazard h) noexcept { return text_of(h).consequence; }
std::string_view remedy(hazard h) noexcept { return text_of(h).remedy; }

std::string summary(const audit_report& report) {
    if (report.safe()) return "nothing that a fork would break";
    std::string line;
    const auto all = std::span(report.findings);
    for (std::size_t from = 0, to = 0; from < all.size(); from = to) {
        while (to < all.size() && all[to].kind == all[from].kind) ++to;
        line += (line.empty() ? "" : "; ") + summary_of(all.subspan(from, to - from));
    }
    return line;
}

std::string audit_parts::signal_text(int number) {
    if (number >= SIGRTMIN && number <= SIGRTMAX)
        return "SIGRTMIN+" + std::to_string(number - SIGRTMIN);
    const char* name = ::sigabbrev_np(number);
    return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(number);
}

}  // namespace cleanfork::ipc
