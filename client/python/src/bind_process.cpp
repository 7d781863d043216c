#include "client/python/src/bind_process.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "client/python/src/bind_arguments.hpp"
#include "client/python/src/bind_convert.hpp"
#include "client/python/src/interruptible.hpp"
#include "client/src/connection/child_state.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::python {

using detail::deadline;
using detail::passed;
using detail::steady;

namespace {

// Short programs end within this: one wake-up, by the forkserver's event.
constexpr std::chrono::milliseconds k_first_wait{5};
// A signal that comes just before poll(2) does not end it: looks again after this.
constexpr std::chrono::milliseconds k_longest_poll{500};
// How long the status of a child that has ended may be on its way.
constexpr std::chrono::milliseconds k_on_its_way{100};

enum class polled { ended, timed_out, interrupted };

polled poll_pidfd(int pidfd, const deadline& d, signal_check& signals) {
    for (;;) {
        if (signals.is_due()) return polled::interrupted;
        const auto until = steady::now() + k_longest_poll;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(
            (d ? std::min(*d, until) : until) - steady::now());
        pollfd f{pidfd, POLLIN, 0};
        // EINTR: a signal whose handler may have something to run.
        if (::poll(&f, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0))) > 0)
            return polled::ended;
        if (passed(d)) return polled::timed_out;
    }
}

// The pidfd is awaited rather than the forkserver's word: that wait ends with
// EINTR, and leaves the socket to other threads.
std::optional<exit_status> wait_interruptibly(detail::child_state& child, const deadline& d,
                                              signal_check& signals) {
    const auto first = steady::now() + k_first_wait;
    if (auto s = child.wait(d ? std::min(*d, first) : first)) return s;
    deadline until = d;
    if (child.process()) {
        if (poll_pidfd(child.process().pidfd(), d, signals) != polled::ended) return std::nullopt;
        if (until) until = std::max(*until, steady::now() + k_on_its_way);
    }
    return child.wait(until, {.interrupted = &signals});
}

py::tuple usage_of(const resource_usage& u) {
    const auto seconds = [](std::chrono::microseconds t) {
        return std::chrono::duration<double>(t).count();
    };
    // In the order of resource.struct_rusage.
    return py::make_tuple(seconds(u.user), seconds(u.system), u.max_rss_kib, 0, 0, 0,
                          u.minor_faults, u.major_faults, 0, u.blocks_in, u.blocks_out, 0, 0, 0,
                          u.voluntary_switches, u.involuntary_switches);
}

}  // namespace

py_process::py_process(process p)
    : process_(std::move(p)), pid_(process_.get()->id()), pidfd_(process_.get()->native_handle()) {}

py_process::~py_process() {
    // What is let go of would keep it open; the number is a copy of the parent's.
    if (process_.get() != nullptr && process_.foreign() && pidfd_ >= 0) ::close(pidfd_);
}

process& py_process::get() const {
    if (process_.foreign())
        raise({.step = step::wait,
               .error_number = ECHILD,
               .object = std::to_string(pid_),
               .detail = "it was started before a fork and belongs to the parent process"});
    return *process_.get();
}

int py_process::take(unique_fd (process::*end)()) {
    process& p = get();
    const std::lock_guard lock(takes_);
    return (p.*end)().release();
}

std::optional<exit_status> py_process::wait(const std::optional<double>& timeout) const {
    const process& p = get();
    const deadline d = detail::deadline_after(to_timeout(timeout));
    std::optional<exit_status> s;
    signal_check signals;
    {
        const without_gil others_run;
        s = wait_interruptibly(*detail::connection::of(p), d, signals);
    }
    signals.rethrow();
    return s;
}

std::optional<exit_status> py_process::poll() const {
    const process& p = get();
    const without_gil others_run;
    if (auto s = p.status()) return s;
    if (pidfd_ < 0 || !ipc::pidfd_wait(pidfd_, ipc::pidfd_event::ended, 0)) return std::nullopt;
    return p.wait_for(k_on_its_way);
}

void py_process::signal(int number) const { get().signal(number); }

void py_process::signal_group(int number) const {
    const process& p = get();
    const without_gil others_run;
    p.signal_group(number);
}

void py_process::signal_tree(int number) const {
    const process& p = get();
    const without_gil others_run;
    p.signal_tree(number);
}

double py_process::wall() const { return std::chrono::duration<double>(get().wall_time()).count(); }

void bind_process(py::module_& m) {
    py::class_<exit_status> status(m, "ExitStatus", "How a child ended.", py::is_final());
    made_by_library_only(status);
    property(status, "exited", &exit_status::is_exited);
    property(status, "signaled", &exit_status::is_signaled);
    property(status, "unknown", &exit_status::is_unknown);
    property(status, "code", &exit_status::code);
    property(status, "signal", &exit_status::signal);
    property(status, "core_dumped", &exit_status::core_dumped);
    property(status, "why", &exit_status::why);
    method(status, {"__bool__", {}},
           [](const exit_status& s, const arguments&) { return s.success(); });
    method(status, {"__str__", {}},
           [](const exit_status& s, const arguments&) { return s.to_string(); });
    method(status, {"__repr__", {}}, [](const exit_status& s, const arguments&) {
        return "<ExitStatus: " + s.to_string() + ">";
    });
    method(status, {"__eq__", {{"other"}}},
           [](const exit_status& s, const arguments& a) -> py::object {
               const py::object& other = a["other"];
               if (!py::isinstance<exit_status>(other) || !is_made(other))
                   return py::reinterpret_borrow<py::object>(Py_NotImplemented);
               return py::bool_(s == *other.cast<exit_status*>());
           });
    status.attr("__hash__") = py::none();

    py::class_<py_process> c(m, "Process", "A child of the forkserver.", py::is_final());
    made_by_library_only(c);
    property(c, "pid", &py_process::pid);
    property(c, "pidfd", &py_process::pidfd);
    property(c, "child_id", &py_process::child_id);
    property(c, "usage", [](const py_process& p) { return usage_of(p.usage()); });
    property(c, "wall", &py_process::wall);
    property(c, "error", [](const py_process& p) { return text_of(p.error()); });
    method(c, {"wait", {{"timeout", py::none()}}},
           [](py_process& self, const arguments& a) { return self.wait(a.seconds("timeout")); });
    method(c, {"poll", {}}, [](py_process& self, const arguments&) { return self.poll(); });
    method(c, {"signal", {{"number"}}},
           [](py_process& self, const arguments& a) { self.signal(a.integer("number")); });
    method(c, {"signal_group", {{"number"}}},
           [](py_process& self, const arguments& a) { self.signal_group(a.integer("number")); });
    method(c, {"signal_tree", {{"number"}}},
           [](py_process& self, const arguments& a) { self.signal_tree(a.integer("number")); });
    method(c, {"kill_tree", {}},
           [](py_process& self, const arguments&) { self.signal_tree(SIGKILL); });
    property(c, "tree", [](const py_process& p) { return name_of(p.tree()); });
    method(c, {"take_stdin", {}}, [](py_process& p, const arguments&) { return p.take_stdin(); });
    method(c, {"take_stdout", {}}, [](py_process& p, const arguments&) { return p.take_stdout(); });
    method(c, {"take_stderr", {}}, [](py_process& p, const arguments&) { return p.take_stderr(); });
    method(c, {"take_result", {}}, [](py_process& p, const arguments&) { return p.take_result(); });
}

}  // namespace cleanfork::python
