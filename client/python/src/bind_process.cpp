#include "client/python/src/bind_process.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

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
    py::class_<exit_status>(m, "ExitStatus", "How a child ended.")
        .def_property_readonly("exited", &exit_status::is_exited)
        .def_property_readonly("signaled", &exit_status::is_signaled)
        .def_property_readonly("unknown", &exit_status::is_unknown)
        .def_property_readonly("code", &exit_status::code)
        .def_property_readonly("signal", &exit_status::signal)
        .def_property_readonly("core_dumped", &exit_status::core_dumped)
        .def_property_readonly("why", &exit_status::why)
        .def("__bool__", &exit_status::success)
        .def("__eq__", [](const exit_status& a, const exit_status& b) { return a == b; })
        .def("__str__", &exit_status::to_string)
        .def("__repr__", [](const exit_status& s) { return "<ExitStatus: " + s.to_string() + ">"; })
        .attr("__hash__") = py::none();

    py::class_<py_process>(m, "Process", "A child of the forkserver.")
        .def_property_readonly("pid", &py_process::pid)
        .def_property_readonly("pidfd", &py_process::pidfd)
        .def_property_readonly("child_id", &py_process::child_id)
        .def("wait", &py_process::wait, py::arg("timeout") = py::none())
        .def("poll", &py_process::poll)
        .def("signal", &py_process::signal, py::arg("number"))
        .def("signal_group", &py_process::signal_group, py::arg("number"))
        .def("signal_tree", &py_process::signal_tree, py::arg("number"))
        .def("kill_tree", [](const py_process& p) { p.signal_tree(SIGKILL); })
        .def_property_readonly("tree", [](const py_process& p) { return name_of(p.tree()); })
        .def_property_readonly("usage", [](const py_process& p) { return usage_of(p.usage()); })
        .def_property_readonly("wall", &py_process::wall)
        .def_property_readonly("error", [](const py_process& p) { return text_of(p.error()); })
        .def("take_stdin", &py_process::take_stdin)
        .def("take_stdout", &py_process::take_stdout)
        .def("take_stderr", &py_process::take_stderr)
        .def("take_result", &py_process::take_result);
}

}  // namespace cleanfork::python
