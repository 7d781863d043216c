// A child, as Python sees it.
#pragma once

#include <cleanfork/process.hpp>
#include <mutex>

#include "client/python/src/bind_errors.hpp"
#include "client/python/src/forks.hpp"

namespace cleanfork::python {

// Thread-safety: all of it may be called from many threads at once, without the GIL too.
class py_process {
public:
    explicit py_process(process p);
    ~py_process();

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    [[nodiscard]] int pidfd() const noexcept { return pidfd_; }
    [[nodiscard]] std::uint64_t child_id() const { return get().child_id(); }

    // nullopt when it still runs after `timeout` seconds.
    std::optional<exit_status> wait(const std::optional<double>& timeout) const;
    // The status if it has ended; does not block, but for the moment in which
    // the status of one that has just ended is on its way.
    std::optional<exit_status> poll() const;

    void signal(int number) const;
    void signal_group(int number) const;
    void signal_tree(int number) const;
    [[nodiscard]] tree_means tree() const { return get().tree(); }

    [[nodiscard]] resource_usage usage() const { return get().usage(); }
    [[nodiscard]] double wall() const;
    [[nodiscard]] std::string error() const { return get().error(); }
    // The caller's ends of pipes, and the answer's memfd: theirs from now on; -1: none.
    int take_stdin() { return take(&process::take_in); }
    int take_stdout() { return take(&process::take_out); }
    int take_stderr() { return take(&process::take_err); }
    int take_result() { return take(&process::take_result); }

private:
    [[nodiscard]] process& get() const;
    // By one of several threads.
    int take(unique_fd (process::*end)());

    std::mutex takes_;  // asked for only where get() returns: by no child of a fork
    not_for_children<process> process_;
    pid_t pid_;
    int pidfd_;
};

// Adds Process and ExitStatus to the module.
void bind_process(py::module_& m);

}  // namespace cleanfork::python
