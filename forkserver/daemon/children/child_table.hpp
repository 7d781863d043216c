// All state of every child, in one table: it could be written out and read back.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>
#include <sys/resource.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <chrono>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "forkserver/daemon/ids.hpp"
#include "ipc/base/process_ref.hpp"

namespace cleanfork::daemon {

enum class signal_target { process, group, cgroup };

struct child_lifetime {
    bool keep = false;
    int signal = 0;
    std::chrono::milliseconds grace{};
    signal_target target = signal_target::process;
};

struct child_exit {
    int wait_status = 0;  // as wait(2)
    rusage usage{};
    std::uint64_t wall_ns = 0;
    std::string error;  // the exception a call ended with
    bool known = true;  // false: another process reaped it and did not tell
};

// A request that waits for the exit: of a session that may have ended since.
struct exit_waiter {
    session_id session;
    request_id request;
};

struct child {
    child_id id;
    ipc::process_ref process;
    session_id session;  // none: kept beyond its session
    bool leads_group = false;
    unique_fd cgroup;
    child_lifetime lifetime;
    std::uint64_t started_ns = 0;
    std::string command;
    std::optional<child_exit> exit;
    bool acknowledged = false;
    request_id held_request;     // the spawn reply that waits for the exit
    bool reply_pending = false;  // of its batch: the exit is told after it
    bool watched = false;        // through its pidfd
    generation_id generation;    // that forked it; none: the forkserver did
    generation_id process_of;    // the generation whose process it is
    std::string template_name;   // of a call
    std::vector<exit_waiter> waiters;
};

// Owns the children and reaps each through its pidfd: waitid(P_ALL) would walk
// the kernel's list of children, and cost more the more there are.
class child_table {
public:
    // `on_exit` is called once a child was reaped, its `exit` filled. It may forget it.
    // `on_drained` follows when no more exits are at hand.
    child_table(boost::asio::io_context& io, unique_fd watch, std::function<void(child&)> on_exit,
                std::function<void()> on_drained);

    // The epoll descriptor for the constructor.
    static result<unique_fd> create_watch();

    // Takes the child in and watches it; its id is chosen here. On failure (the
    // kernel has no memory for the watch) the process is killed and reaped.
    result<child*> add(child c);

    // Takes in the child of a template, which reaps it and tells.
    child* add_of_template(child c);
    void ended(child& c, int wait_status, const rusage& usage, std::string error);
    // The template has gone: the forkserver is the parent now, and watches it.
    void adopt(child& c);
    // Reaps it if it has ended. `on_drained` follows.
    void reap(child& c) {
        reap_if_ended(c);
        on_drained_();
    }

    child* find(child_id id);
    void forget(child_id id);

    [[nodiscard]] std::size_t alive() const noexcept { return alive_; }
    [[nodiscard]] std::size_t size() const noexcept { return children_.size(); }
    [[nodiscard]] std::uint64_t exited_total() const noexcept { return exited_total_; }
    // In the order of their ids. The callback must not add or forget.
    void each(const std::function<void(child&)>& f);
    [[nodiscard]] std::vector<child_id> of_session(session_id session) const;

private:
    void await();
    void drain();
    void reap_if_ended(child& c);
    void exited(child& c, child_exit e);

    boost::asio::posix::stream_descriptor watch_;
    std::function<void(child&)> on_exit_;
    std::function<void()> on_drained_;
    std::map<child_id, child> children_;
    child_id next_id_{1};
    std::size_t alive_ = 0;
    std::uint64_t exited_total_ = 0;
};

// Signals a child, its process group or its cgroup. 0 or errno: ESRCH when
// there is nobody left. `by_pidfd`: the kernel signals groups through the
// pidfd; else a group is reached only while its leader is unreaped.
int signal_child(const child& c, int signal, signal_target target, bool by_pidfd, bool cgroup_kill);

// True while somebody of what `lifetime.target` means is alive.
bool anyone_left(const child& c, bool by_pidfd);

void to_wire(const child& c, v1::Exit& out);

}  // namespace cleanfork::daemon
