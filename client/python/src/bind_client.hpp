// A client, as Python sees it.
//
// Thread-safety: all of it may be called from many threads at once, without the GIL too; what
// close() ends under others fails there.
#pragma once

#include <cleanfork/client.hpp>
#include <memory>
#include <mutex>

#include "client/python/src/bind_options.hpp"
#include "client/python/src/bind_process.hpp"
#include "client/python/src/caller.hpp"
#include "client/python/src/forks.hpp"

namespace cleanfork::python {

class py_client {
public:
    // `base`: what the session has.
    py_client(client c, std::optional<base_state> base);

    // Ends the session. Python's handles of children stay usable.
    void close() noexcept;
    // False once the forkserver is lost; finds out without a request.
    [[nodiscard]] bool connected() const;
    // The socket, borrowed.
    [[nodiscard]] int fileno() const;

    // `like_caller`: with the umask, ignored signals and process group of this program; with a
    // group of its own when the forkserver is in another session.
    std::unique_ptr<py_process> spawn(py::handle program, py::handle args, bool like_caller,
                                      const std::optional<double>& seconds,
                                      const py::kwargs& keywords) const;
    std::unique_ptr<py_process> call(std::string_view template_name, std::string_view entry,
                                     py::handle payload, py::handle args,
                                     std::map<std::string, int> named_fds,
                                     const std::string& session_name, const std::string& claim_name,
                                     bool result, bool like_caller,
                                     const std::optional<double>& seconds,
                                     const py::kwargs& keywords) const;

    // `like_caller`: with the umask and the ignored signals of this program.
    py::dict add_template(std::string_view name, py::handle program, py::handle args,
                          bool like_caller, const std::optional<double>& seconds,
                          py::kwargs keywords) const;
    [[nodiscard]] py::list templates(const std::optional<double>& seconds) const;
    [[nodiscard]] py::dict template_info(std::string_view name,
                                         const std::optional<double>& seconds) const;
    [[nodiscard]] py::dict reload_template(std::string_view name, bool wait,
                                           const std::optional<double>& seconds) const;
    void remove_template(std::string_view name, const std::optional<double>& seconds) const;

    [[nodiscard]] py::dict server() const;
    [[nodiscard]] py::dict events(std::uint64_t after, const std::optional<double>& seconds) const;
    [[nodiscard]] py::dict stats(const std::optional<double>& seconds) const;
    [[nodiscard]] py::list list(const std::optional<double>& seconds) const;
    [[nodiscard]] int open_session() const;

private:
    // Null once it is closed, and in a child of a fork.
    [[nodiscard]] std::shared_ptr<detail::connection> find_connection() const;
    // Raises when there is none.
    [[nodiscard]] std::shared_ptr<detail::connection> connection() const;
    [[nodiscard]] child_attributes attributes(const py::kwargs& keywords,
                                              spawn_options start = {}) const;

    // Of the two that close() takes away. A child of a fork never asks for it: another thread may
    // have had it in the parent.
    mutable std::mutex mutex_;
    not_for_children<client> client_;
    // Destroyed before the client: a socket that is about to be closed is not registered any more.
    std::unique_ptr<parent_only_socket> socket_;
    std::optional<base_state> base_;
};

// Adds Client, launch(), connect() and attach() to the module.
void bind_client(py::module_& m);

}  // namespace cleanfork::python
