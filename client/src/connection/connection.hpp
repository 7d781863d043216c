// One connection to a forkserver: requests out, replies and exits in.
//
// No thread of its own reads the socket. One thread at a time has the *reader's
// role*: a thread blocked in a call takes it, polls, and dispatches what comes
// for everyone (leader); others that block wait until their reply has come or
// the role is passed to them (followers). Only when nobody blocks does the
// watcher read, on the executor. While a leader sleeps in poll() nobody else
// reads, so that nobody can take away the packet it sleeps for.
//
// Thread-safety: everything may be called from many threads at once. mutex()
// protects the tables, every waiter and every child_state; no handler, no
// executor and no destructor of either runs under it.
#pragma once

#include <atomic>
#include <cleanfork/client.hpp>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "client/src/connection/child_state.hpp"
#include "client/src/connection/completion.hpp"
#include "client/src/connection/deadline.hpp"
#include "client/src/connection/outgoing.hpp"
#include "client/src/connection/waiter.hpp"
#include "client/src/connection/watcher.hpp"
#include "client/src/connection/writer.hpp"
#include "ipc/wire/message.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::detail {

using reply = ipc::decoded<v1::ServerMessage>;

// A request that waits for its reply.
class operation {
public:
    virtual ~operation() = default;
    // Called once, without the mutex, by whoever reads the reply or loses the connection.
    virtual void finish(connection& c, result<reply>&& r) = 0;
    // Where an asynchronous one may be watched for; null for a blocked thread's.
    [[nodiscard]] virtual const any_io_executor* io() const noexcept { return nullptr; }
};

// For requests whose outcome does not matter.
class ignoring_operation final : public operation {
    void finish(connection&, result<reply>&&) override {}
};

class connection : public std::enable_shared_from_this<connection> {
public:
    // Takes a connected socket, non-blocking. `executor` may be empty.
    connection(unique_fd socket, any_io_executor executor);
    ~connection();

    // A public handle: when the last copy goes, close() is called.
    static client make_client(std::shared_ptr<connection> c);
    static const std::shared_ptr<connection>& of(const client& c) noexcept { return c.connection_; }
    static const std::shared_ptr<child_state>& of(const process& p) noexcept { return p.state_; }

    // Ends the session; what is pending fails with ECANCELED.
    void close();
    [[nodiscard]] bool lost() const;
    // The socket, borrowed: for a forked child that must close it, and may touch nothing else.
    [[nodiscard]] int native_handle() const noexcept { return socket_.get(); }

    // Set once by the handshake, before the connection is shared.
    server_info server;
    bool exit_info = false;  // a pidfd tells the status after the reap

    [[nodiscard]] const any_io_executor& executor() const noexcept { return executor_; }
    [[nodiscard]] std::mutex& mutex() noexcept { return mutex_; }

    // ---- requests
    std::uint64_t next_id() noexcept { return next_id_.fetch_add(1, std::memory_order_relaxed); }
    // Sends `m`; its reply goes to `op`. On failure `op` is not kept and not finished.
    result<void> submit(std::uint64_t id, outgoing& m, const std::shared_ptr<operation>& op);
    // Asks the forkserver to drop a request that is still queued.
    void request_cancel(std::uint64_t id);
    // Finishes the operation with `why` now; its reply, when it comes, goes to `instead`.
    void withdraw(std::uint64_t id, failure why, const std::shared_ptr<operation>& instead);
    // Helps the packets that the socket did not take at once out of the door.
    void flush_blocking(const deadline& d);
    [[nodiscard]] bool sends_blocked() const noexcept { return writer_.blocked(); }

    // ---- blocking
    enum class awaited { ready, timed_out, descriptors };
    // Blocks until w.ready, the deadline, or until one of `also` is ready
    // (revents are set). Reads the socket meanwhile, or lets another thread do it.
    awaited await(std::unique_lock<std::mutex>& lock, waiter& w, const deadline& d,
                  std::span<pollfd> also = {});
    // Reads what is there, if nobody else does. Does not block.
    void read_available();

    // ---- children
    // From the reply to a spawn; the child is known before any later packet is read.
    result<process> adopt(const v1::SpawnReply& r, std::vector<unique_fd>& descriptors,
                          parent_ends&& ends);
    // An asynchronous wait begins or ends; with the mutex held.
    void add_interest(const any_io_executor& io);
    void drop_interest();
    // The failure everything gets once the connection is lost; with the mutex held.
    [[nodiscard]] const std::optional<failure>& loss() const noexcept { return loss_; }

    // ---- called by the watcher
    void on_readable(std::uint64_t generation);
    void on_writable();
    void abandon(std::uint64_t generation);

private:
    // reader.cpp
    awaited lead(std::unique_lock<std::mutex>& lock, waiter& w, const deadline& d,
                 std::span<pollfd> also);
    awaited follow(std::unique_lock<std::mutex>& lock, waiter& w, const deadline& d,
                   std::span<pollfd> also);
    void leave_role(const std::unique_lock<std::mutex>& lock);
    void drain(const waiter* until);
    void dispatch(reply&& r);
    void on_exits(const v1::ExitEvents& events);
    void send_acknowledgements(std::size_t at_least);

    void lose(failure why);
    void update_watch();
    void finish_unsent(std::vector<writer::unsent>& failed);

    const unique_fd socket_;
    const any_io_executor executor_;
    writer writer_;
    std::atomic<std::uint64_t> next_id_{1};
    ipc::receiver receiver_;  // of whoever has the role

    mutable std::mutex mutex_;
    bool role_taken_ = false;
    std::vector<waiter*> followers_;
    std::unordered_map<std::uint64_t, std::shared_ptr<operation>> pending_;
    std::unordered_map<std::uint64_t, std::weak_ptr<child_state>> children_;
    std::vector<std::uint64_t> acknowledged_;
    std::optional<failure> loss_;
    std::size_t interest_ = 0;  // asynchronous operations and waits
    any_io_executor watch_io_;
    watcher watcher_;
};

}  // namespace cleanfork::detail
