#include "client/python/src/bind_client.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cleanfork/pseudo_terminal.hpp>
#include <csignal>
#include <cstdint>
#include <limits>

#include "client/python/src/bind_options.hpp"
#include "client/python/src/bind_reports.hpp"
#include "client/python/src/claim.hpp"
#include "client/python/src/interruptible.hpp"
#include "client/src/connection/child_state.hpp"
#include "client/src/requests/server_requests.hpp"
#include "client/src/requests/spawn_requests.hpp"
#include "client/src/requests/template_requests.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/process_ref.hpp"

namespace cleanfork::python {

namespace {

using seconds = std::optional<double>;

// Borrows the bytes of a buffer, or the descriptor of a memfd or file.
struct borrowed_payload {
    explicit borrowed_payload(py::handle h) {
        if (h.is_none()) return;
        if (PyLong_Check(h.ptr()) || py::hasattr(h, "fileno")) {
            value = payload(stdio::descriptor{descriptor_of(h)});
            return;
        }
        if (PyObject_GetBuffer(h.ptr(), &view, PyBUF_SIMPLE) != 0) throw py::error_already_set();
        held = true;
        value = payload(std::string_view(static_cast<const char*>(view.buf),
                                         static_cast<std::size_t>(view.len)));
    }
    borrowed_payload(const borrowed_payload&) = delete;
    borrowed_payload& operator=(const borrowed_payload&) = delete;
    ~borrowed_payload() {
        if (held) PyBuffer_Release(&view);
    }

    payload value;
    Py_buffer view{};
    bool held = false;
};

path_or_fd program_of(py::handle h) {
    if (PyLong_Check(h.ptr()) || py::hasattr(h, "fileno")) return descriptor_of(h);
    return bytes_of(h);
}

template <class Connect>
std::unique_ptr<py_client> connected(const Connect& connect,
                                     const std::optional<caller_state>& launched = {}) {
    client c;
    std::optional<base_state> base(std::in_place);
    {
        const without_gil others_run;
        c = connect();
    }
    // Another thread may have changed them before or after they were sent.
    if (*base != base_state()) base.reset();
    return std::make_unique<py_client>(std::move(c), launched, std::move(base));
}

std::chrono::nanoseconds nanoseconds_of(double t) {
    return to_timeout(t).value_or(std::chrono::hours(24 * 365));
}

std::unique_ptr<py_client> launch_client(py::handle daemon, const std::vector<std::string>& args,
                                         int log_fd, double t) {
    launch_options o{.daemon = daemon.is_none() ? "" : bytes_of(daemon),
                     .daemon_args = args,
                     .log_fd = log_fd,
                     .share_session = true,
                     .timeout = nanoseconds_of(t)};
    return connected([&] { return launch(o); }, caller_state());
}

std::unique_ptr<py_client> connect_client(py::handle path, double t) {
    const connect_options o{.path = path.is_none() ? "" : bytes_of(path),
                            .timeout = nanoseconds_of(t)};
    return connected([&] { return connect(o); });
}

std::unique_ptr<py_client> attach_client(int fd, double t, const py::bytes& launched) {
    return connected([&] { return attach(unique_fd(fd), nanoseconds_of(t)); },
                     caller_state::unpacked(std::string_view(launched)));
}

// It has ended and was reaped, and its status went with the forkserver. Like a pidfd it is
// hung up; no signal reaches anybody through it.
unique_fd of_ended_process() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return {};
    ::close(ends[1]);
    return unique_fd(ends[0]);
}

// The child that took its claim when the forkserver was lost before it told.
std::optional<process> process_of(detail::connection& c, pid_t pid) {
    if (pid <= 0) return std::nullopt;
    unique_fd pidfd = ipc::pidfd_open(pid);
    if (!pidfd && errno == ESRCH) pidfd = of_ended_process();
    if (!pidfd) return std::nullopt;
    // What a lost forkserver called it nobody knows.
    constexpr ipc::child_id k_untold(std::numeric_limits<std::uint64_t>::max());
    return detail::adopt(c, k_untold, ipc::process_ref(pid, std::move(pidfd)), {});
}

// Python itself ignores SIGPIPE and SIGXFSZ, which is no decision of the program: as
// restore_signals of the standard module has it.
void take_inherited(spawn_options& o) {
    ipc::inherited_state now = ipc::own_inherited_state();
    o.umask = now.umask;
    o.ignored_signals = std::move(now.ignored_signals);
    std::erase_if(o.ignored_signals, [](int s) { return s == SIGPIPE || s == SIGXFSZ; });
}

// Both belong to the caller.
py::tuple open_terminal(unsigned short rows, unsigned short columns, bool echo, bool raw) {
    pty_pair pty = value_or_raise(open_pty({rows, columns, echo, raw}));
    return py::make_tuple(pty.master.release(), pty.child_end.release());
}

py::bytes read_answer(int fd) { return py::bytes(read_result(fd)); }

}  // namespace

py_client::py_client(client c, const std::optional<caller_state>& launched,
                     std::optional<base_state> base)
    : client_(std::move(c)),
      socket_(std::make_unique<parent_only_socket>(
          detail::connection::of(*client_.get())->native_handle())),
      launched_(launched),
      base_(std::move(base)) {}

void py_client::close() noexcept {
    socket_.reset();
    client_.reset();
}

std::shared_ptr<detail::connection> py_client::connection() const {
    if (client_.foreign())
        raise({.step = step::connect,
               .error_number = ENOTCONN,
               .object = "client",
               .detail = "it was made before a fork and belongs to the parent process: "
                         "cleanfork.client() gives this process its own"});
    if (client_.get() == nullptr) raise(detail::not_connected());
    // Not the client's own, which is the session: close() ends that at any time.
    return detail::connection::of(*client_.get())->shared_from_this();
}

child_attributes py_client::attributes(const py::kwargs& keywords, spawn_options start) const {
    return attributes_of(keywords, base_ && *base_ == base_state(), std::move(start));
}

void py_client::make_like_caller(spawn_options& o) const {
    take_inherited(o);
    if (launched_) caller_state().add_changes(*launched_, o);
    // A process can join a group of its own session only, and one that has a number here: that
    // of a program in a new PID namespace may be outside.
    const pid_t group = ::getpgrp();
    if (group > 0 && ::getsid(client_.get()->server().pid) == ::getsid(0) && group_is_a_job())
        o.group = {.how = process_group::kind::join, .id = group};
}

bool py_client::connected() const {
    if (client_.foreign() || client_.get() == nullptr || !client_.get()->connected()) return false;
    pollfd p{socket_->get(), 0, 0};
    return ::poll(&p, 1, 0) <= 0 || (p.revents & (POLLHUP | POLLERR)) == 0;
}

int py_client::fileno() const { return connection()->native_handle(); }

py_process py_client::spawn(py::handle program, py::handle args, bool like_caller, const seconds& t,
                            const py::kwargs& keywords) const {
    const auto c = connection();
    spawn_options start{.program = program_of(program), .args = list_of_bytes(args)};
    if (like_caller) make_like_caller(start);
    child_attributes a = attributes(keywords, std::move(start));
    return py_process(ask<detail::spawn_request>(c, t, a.options));
}

py_process py_client::call(std::string_view template_name, std::string_view entry,
                           py::handle payload, py::handle args,
                           std::map<std::string, int> named_fds, const std::string& session_name,
                           const std::string& claim_name, bool result, bool like_caller,
                           const seconds& t, const py::kwargs& keywords) const {
    const auto c = connection();
    spawn_options start;
    if (like_caller) make_like_caller(start);
    child_attributes a = attributes(keywords, std::move(start));
    // These two are no ints of Python's, which an interrupt could make it forget.
    const claim right_to_run = claim_name.empty() ? claim() : claim::made();
    if (!claim_name.empty()) named_fds[claim_name] = right_to_run.fd();
    const unique_fd session(session_name.empty() ? -1 : open_session());
    if (session) named_fds[session_name] = session.get();
    const call_options o{.args = list_of_bytes(args),
                         .fds = std::move(named_fds),
                         .result = result,
                         .attributes = std::move(a.options)};
    const borrowed_payload p(payload);
    bool lost = false;
    try {
        auto called = try_ask<detail::spawn_request>(
            c, t, detail::entry_call{template_name, entry, p.value, o});
        lost = !called && called.error().step == step::connect;
        return py_process(value_or_raise(std::move(called)));
    } catch (py::error_already_set& e) {
        const auto taker = right_to_run.taker();
        if (!taker) throw;
        if (auto begun = lost ? process_of(*c, *taker) : std::nullopt)
            return py_process(std::move(*begun));
        e.value().attr("began") = true;
        throw;
    }
}

py::dict py_client::add_template(std::string_view name, py::handle program, py::handle args,
                                 bool like_caller, const seconds& t, py::kwargs keywords) const {
    const auto c = connection();
    template_options o;
    take_template_keywords(keywords, o);
    spawn_options start;
    if (like_caller) take_inherited(start);
    if (!program.is_none()) start.program = program_of(program);
    start.args = list_of_bytes(args);
    child_attributes a = attributes(keywords, std::move(start));
    o.process = std::move(a.options);
    return dict_of(ask<detail::add_template_request>(c, t, name, o));
}

py::list py_client::templates(const seconds& t) const {
    py::list all;
    for (const auto& each : ask<detail::list_templates_request>(connection(), t))
        all.append(dict_of(each));
    return all;
}

py::dict py_client::template_info(std::string_view name, const seconds& t) const {
    return dict_of(ask<detail::template_info_request>(connection(), t, name));
}

py::dict py_client::reload_template(std::string_view name, bool wait, const seconds& t) const {
    using answer = detail::reload_template_request::answer;
    const answer when = wait ? answer::when_ready : answer::at_once;
    return dict_of(ask<detail::reload_template_request>(connection(), t, name, when));
}

void py_client::remove_template(std::string_view name, const seconds& t) const {
    ask<detail::remove_template_request>(connection(), t, name);
}

py::dict py_client::server() const { return dict_of(connection()->facts().server); }

py::bytes py_client::launched() const { return launched_ ? launched_->packed() : std::string(); }

py::dict py_client::stats(const seconds& t) const {
    return dict_of(ask<detail::stats_request>(connection(), t));
}

int py_client::open_session() const {
    return value_or_raise(detail::open_session(*connection())).release();
}

py::list py_client::list(const seconds& t) const {
    py::list all;
    for (const auto& each : ask<detail::list_request>(connection(), t)) all.append(dict_of(each));
    return all;
}

void bind_client(py::module_& m) {
    const auto no_timeout = py::arg("timeout") = py::none();
    const auto no_args = py::arg("args") = py::tuple();
    py::class_<py_client>(m, "Client", "A session with a forkserver.")
        .def("close", &py_client::close)
        .def("fileno", &py_client::fileno)
        .def_property_readonly("connected", &py_client::connected)
        .def_property_readonly("server", &py_client::server)
        .def_property_readonly("launched", &py_client::launched)
        .def("spawn", &py_client::spawn, py::arg("program"), no_args, py::kw_only(),
             py::arg("like_caller") = false, no_timeout)
        .def("call", &py_client::call, py::arg("template_name"), py::arg("entry"),
             py::arg("payload") = py::none(), py::kw_only(), no_args,
             py::arg("named_fds") = py::dict(), py::arg("session_name") = "",
             py::arg("claim_name") = "", py::arg("result") = false, py::arg("like_caller") = false,
             no_timeout)
        .def("add_template", &py_client::add_template, py::arg("name"),
             py::arg("program") = py::none(), no_args, py::kw_only(),
             py::arg("like_caller") = false, no_timeout)
        .def("templates", &py_client::templates, no_timeout)
        .def("template_info", &py_client::template_info, py::arg("name"), no_timeout)
        .def("reload_template", &py_client::reload_template, py::arg("name"),
             py::arg("wait") = true, no_timeout)
        .def("remove_template", &py_client::remove_template, py::arg("name"), no_timeout)
        .def("stats", &py_client::stats, no_timeout)
        .def("list", &py_client::list, no_timeout)
        .def("open_session", &py_client::open_session);

    constexpr double k_usual = 10;
    m.def("launch", &launch_client, py::arg("daemon") = py::none(), py::kw_only(),
          py::arg("daemon_args") = py::tuple(), py::arg("log_fd") = -1,
          py::arg("timeout") = k_usual);
    m.def("connect", &connect_client, py::arg("path") = py::none(), py::kw_only(),
          py::arg("timeout") = k_usual);
    m.def("attach", &attach_client, py::arg("fd"), py::kw_only(), py::arg("timeout") = k_usual,
          py::arg("launched") = py::bytes());
    m.def("open_pty", &open_terminal, py::kw_only(), py::arg("rows") = 24, py::arg("columns") = 80,
          py::arg("echo") = true, py::arg("raw") = false);
    m.def("read_result", &read_answer, py::arg("fd"));
}

}  // namespace cleanfork::python
