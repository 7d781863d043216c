#include "client/python/src/bind_client.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cleanfork/pseudo_terminal.hpp>
#include <cstdint>
#include <limits>

#include "client/python/src/bind_arguments.hpp"
#include "client/python/src/bind_options.hpp"
#include "client/python/src/bind_reports.hpp"
#include "client/python/src/claim.hpp"
#include "client/python/src/interruptible.hpp"
#include "client/src/connection/child_state.hpp"
#include "client/src/requests/server_requests.hpp"
#include "client/src/requests/spawn_requests.hpp"
#include "client/src/requests/template_requests.hpp"
#include "ipc/base/process_ref.hpp"

namespace cleanfork::python {

namespace {

using seconds = std::optional<double>;

// Borrows the bytes of a buffer, or the descriptor of a memfd or file.
struct borrowed_payload {
    explicit borrowed_payload(py::handle h) {
        if (h.is_none()) return;
        if (is_descriptor(h)) {
            value = payload(stdio::descriptor{descriptor_of(h, "payload")});
            return;
        }
        if (PyObject_CheckBuffer(h.ptr()) == 0)
            refuse_type("payload", "a bytes-like object or a descriptor", h);
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

template <class Connect>
std::unique_ptr<py_client> connected(const Connect& connect) {
    client c;
    std::optional<base_state> base(std::in_place);
    {
        const without_gil others_run;
        c = connect();
    }
    // Another thread may have changed them before or after they were sent.
    if (*base != base_state()) base.reset();
    return std::make_unique<py_client>(std::move(c), std::move(base));
}

std::chrono::nanoseconds nanoseconds_of(const seconds& t) {
    return to_timeout(t).value_or(std::chrono::hours(24 * 365));
}

std::unique_ptr<py_client> launch_client(const arguments& a) {
    const py::object& wanted = a["descendant"];
    const auto descendant = wanted.is_none() ? std::nullopt : std::optional(truth_of(wanted));
    const launch_options o{.daemon = a["daemon"].is_none() ? "" : a.text("daemon"),
                           .daemon_args = list_of_bytes(a["daemon_args"], "daemon_args"),
                           .log_fd = a.integer("log_fd"),
                           .share_session = true,
                           .descendant = descendant,
                           .timeout = nanoseconds_of(a.seconds("timeout")),
                           .lends_rights = a.flag("lends_rights")};
    return connected([&] { return launch(o); });
}

std::unique_ptr<py_client> connect_client(const arguments& a) {
    const connect_options o{.path = a["path"].is_none() ? "" : a.text("path"),
                            .timeout = nanoseconds_of(a.seconds("timeout")),
                            .lends_rights = a.flag("lends_rights")};
    return connected([&] { return connect(o); });
}

std::unique_ptr<py_client> attach_client(const arguments& a) {
    const auto t = nanoseconds_of(a.seconds("timeout"));
    unique_fd socket(descriptor_of(a["fd"], "fd"));
    return connected([&] { return attach(std::move(socket), t); });
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

// Both belong to the caller.
py::tuple open_terminal(const arguments& a) {
    pty_pair pty = value_or_raise(open_pty({integer_of<unsigned short>(a["rows"], "rows"),
                                            integer_of<unsigned short>(a["columns"], "columns"),
                                            a.flag("echo"), a.flag("raw")}));
    return py::make_tuple(pty.master.release(), pty.child_end.release());
}

}  // namespace

py_client::py_client(client c, std::optional<base_state> base)
    : client_(std::move(c)),
      socket_(std::make_unique<parent_only_socket>(
          detail::connection::of(*client_.get())->native_handle())),
      base_(std::move(base)) {}

void py_client::close() noexcept {
    std::unique_lock lock(mutex_, std::defer_lock);
    if (!client_.foreign()) lock.lock();
    const not_for_children<client> closed(std::move(client_));
    const auto unregistered_before = std::move(socket_);
    if (lock) lock.unlock();
}

std::shared_ptr<detail::connection> py_client::find_connection() const {
    if (client_.foreign()) return nullptr;
    const std::lock_guard lock(mutex_);
    // Not the client's own, which is the session: close() ends that at any time.
    return client_.get() == nullptr ? nullptr
                                    : detail::connection::of(*client_.get())->shared_from_this();
}

std::shared_ptr<detail::connection> py_client::connection() const {
    if (client_.foreign())
        raise({.step = step::connect,
               .error_number = ENOTCONN,
               .object = "client",
               .detail = "it was made before a fork and belongs to the parent process: "
                         "cleanfork.client() gives this process its own"});
    auto c = find_connection();
    if (!c) raise(detail::not_connected());
    return c;
}

child_attributes py_client::attributes(const py::kwargs& keywords, spawn_options start) const {
    return attributes_of(keywords, base_ && *base_ == base_state(), std::move(start));
}

bool py_client::connected() const {
    const auto c = find_connection();
    if (!c || c->lost()) return false;
    pollfd p{c->native_handle(), 0, 0};
    return ::poll(&p, 1, 0) <= 0 || (p.revents & (POLLHUP | POLLERR)) == 0;
}

int py_client::fileno() const { return connection()->native_handle(); }

std::unique_ptr<py_process> py_client::spawn(py::handle program, py::handle args, bool like_caller,
                                             const seconds& t, const py::kwargs& keywords) const {
    const auto c = connection();
    spawn_options start{.program = path_or_fd_of(program, "program"),
                        .args = list_of_bytes(args, "args")};
    if (like_caller) make_like_caller(start, c->facts().server.pid);
    child_attributes a = attributes(keywords, std::move(start));
    return std::make_unique<py_process>(ask<detail::spawn_request>(c, t, a.options));
}

std::unique_ptr<py_process> py_client::call(std::string_view template_name, std::string_view entry,
                                            py::handle payload, py::handle args,
                                            std::map<std::string, int> named_fds,
                                            const std::string& session_name,
                                            const std::string& claim_name, bool result,
                                            bool like_caller, const seconds& t,
                                            const py::kwargs& keywords) const {
    const auto c = connection();
    spawn_options start;
    if (like_caller) make_like_caller(start, c->facts().server.pid);
    child_attributes a = attributes(keywords, std::move(start));
    // These two are no ints of Python's, which an interrupt could make it forget.
    const claim right_to_run = claim_name.empty() ? claim() : claim::made();
    if (!claim_name.empty()) named_fds[claim_name] = right_to_run.fd();
    const unique_fd session(session_name.empty() ? -1 : open_session());
    if (session) named_fds[session_name] = session.get();
    const call_options o{.args = list_of_bytes(args, "args"),
                         .fds = std::move(named_fds),
                         .result = result,
                         .attributes = std::move(a.options)};
    const borrowed_payload p(payload);
    bool lost = false;
    try {
        auto called = try_ask<detail::spawn_request>(
            c, t, detail::entry_call{template_name, entry, p.value, o});
        lost = !called && called.error().step == step::connect;
        return std::make_unique<py_process>(value_or_raise(std::move(called)));
    } catch (py::error_already_set& e) {
        const auto taker = right_to_run.taker();
        if (!taker) throw;
        if (auto begun = lost ? process_of(*c, *taker) : std::nullopt)
            return std::make_unique<py_process>(std::move(*begun));
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
    if (!program.is_none()) start.program = path_or_fd_of(program, "program");
    start.args = list_of_bytes(args, "args");
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

py::dict py_client::events(std::uint64_t after, const seconds& t) const {
    return dict_of(ask<detail::events_request>(connection(), t, after));
}

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

namespace {

void bind_templates(py::class_<py_client>& c) {
    const auto no_timeout = [] { return parameter{"timeout", py::none()}; };
    constexpr auto k_taken = signature::others::taken;
    method(c,
           {"call",
            {{"template_name"},
             {"entry"},
             {"payload", py::none()},
             keyword("args", py::tuple()),
             keyword("named_fds", py::dict()),
             keyword("session_name", py::str()),
             keyword("claim_name", py::str()),
             keyword("result", py::bool_(false)),
             keyword("like_caller", py::bool_(false)),
             keyword("timeout", py::none())},
            k_taken},
           [](const py_client& self, const arguments& a) {
               return self.call(a.text("template_name"), a.text("entry"), a["payload"], a["args"],
                                named_descriptors_of(a["named_fds"], "named_fds"),
                                a.text("session_name"), a.text("claim_name"), a.flag("result"),
                                a.flag("like_caller"), a.seconds("timeout"), a.others());
           });
    method(c,
           {"add_template",
            {{"name"},
             {"program", py::none()},
             {"args", py::tuple()},
             keyword("like_caller", py::bool_(false)),
             keyword("timeout", py::none())},
            k_taken},
           [](const py_client& self, const arguments& a) {
               return self.add_template(a.text("name"), a["program"], a["args"],
                                        a.flag("like_caller"), a.seconds("timeout"), a.others());
           });
    method(c, {"templates", {no_timeout()}}, [](const py_client& self, const arguments& a) {
        return self.templates(a.seconds("timeout"));
    });
    method(c, {"template_info", {{"name"}, no_timeout()}},
           [](const py_client& self, const arguments& a) {
               return self.template_info(a.text("name"), a.seconds("timeout"));
           });
    method(c, {"reload_template", {{"name"}, {"wait", py::bool_(true)}, no_timeout()}},
           [](const py_client& self, const arguments& a) {
               return self.reload_template(a.text("name"), a.flag("wait"), a.seconds("timeout"));
           });
    method(c, {"remove_template", {{"name"}, no_timeout()}},
           [](const py_client& self, const arguments& a) {
               self.remove_template(a.text("name"), a.seconds("timeout"));
           });
}

}  // namespace

void bind_client(py::module_& m) {
    const auto no_timeout = [] { return parameter{"timeout", py::none()}; };
    py::class_<py_client> c(m, "Client", "A session with a forkserver.", py::is_final());
    made_by_library_only(c);
    property(c, "connected", &py_client::connected);
    property(c, "server", &py_client::server);

    method(c, {"close", {}}, [](py_client& self, const arguments&) { self.close(); });
    method(c, {"fileno", {}}, [](py_client& self, const arguments&) { return self.fileno(); });
    method(c, {"open_session", {}},
           [](py_client& self, const arguments&) { return self.open_session(); });
    method(c, {"events", {{"after", py::int_(0)}, no_timeout()}},
           [](py_client& self, const arguments& a) {
               const std::int64_t after = integer_between(a["after"], "after", 0,
                                                          std::numeric_limits<std::int64_t>::max());
               return self.events(static_cast<std::uint64_t>(after), a.seconds("timeout"));
           });
    method(c, {"stats", {no_timeout()}},
           [](py_client& self, const arguments& a) { return self.stats(a.seconds("timeout")); });
    method(c, {"list", {no_timeout()}},
           [](py_client& self, const arguments& a) { return self.list(a.seconds("timeout")); });
    method(c,
           {"spawn",
            {{"program"},
             {"args", py::tuple()},
             keyword("like_caller", py::bool_(false)),
             keyword("timeout", py::none())},
            signature::others::taken},
           [](const py_client& self, const arguments& a) {
               return self.spawn(a["program"], a["args"], a.flag("like_caller"),
                                 a.seconds("timeout"), a.others());
           });
    bind_templates(c);

    const py::float_ usual(10.0);  // seconds
    function(m,
             {"launch",
              {{"daemon", py::none()},
               keyword("daemon_args", py::tuple()),
               keyword("log_fd", py::int_(-1)),
               keyword("timeout", usual),
               keyword("descendant", py::none()),
               keyword("lends_rights", py::bool_(false))}},
             &launch_client);
    function(m,
             {"connect",
              {{"path", py::none()},
               keyword("timeout", usual),
               keyword("lends_rights", py::bool_(false))}},
             &connect_client);
    function(m, {"attach", {{"fd"}, keyword("timeout", usual)}}, &attach_client);
    function(m,
             {"open_pty",
              {keyword("rows", py::int_(24)), keyword("columns", py::int_(80)),
               keyword("echo", py::bool_(true)), keyword("raw", py::bool_(false))}},
             &open_terminal);
    function(m, {"read_result", {{"fd"}}}, [](const arguments& a) {
        return py::bytes(read_result(descriptor_of(a["fd"], "fd")));
    });
}

}  // namespace cleanfork::python
