// One connection to a forkserver: requests out, replies and exits in.
//
// No thread of its own reads the socket. One thread at a time has the *reader's
// role*: a thread blocked in a call takes it, polls, and dispatches what comes
// for everyone (leader); others that block wait until their reply has come or
// the role is passed to them (followers). Only when nobody blocks does the
// watcher read, on the executor. While a leader sleeps in poll() nobody else
// reads, so that nobody can take away the packet it sleeps for.
//
// Thread-safety: everything may be called from many threads at once. lock() is the
// way to the tables, to every waiter and to what children share; no handler, no
// executor and no destructor of either runs under it.
#pragma once

#include <atomic>
#include <cleanfork/client.hpp>
#include <cleanfork/detail/owning_process.hpp>
#include <functional>
#include <memory>
#include <span>

#include "client/src/connection/lease_pool.hpp"
#include "client/src/connection/outgoing.hpp"
#include "client/src/connection/tables.hpp"
#include "client/src/connection/writer.hpp"
#include "ipc/base/identity.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::detail {

class child_state;

class connection final : public socket_listener, public std::enable_shared_from_this<connection> {
public:
    // Takes a connected socket, non-blocking. `executor` may be empty.
    connection(unique_fd socket, any_io_executor executor);
    ~connection();

    // ---- public handles
    // When the last copy of the client goes, close() is called.
    static client make_client(std::shared_ptr<connection> c);
    static process make_process(std::shared_ptr<child_state> child, parent_ends&& ends);
    static const std::shared_ptr<connection>& of(const client& c) noexcept { return c.connection_; }
    static const std::shared_ptr<child_state>& of(const process& p) noexcept { return p.state_; }

    // Ends the session; what is pending fails with ECANCELED. In a forked copy of the program
    // it does nothing: the session is the original's.
    void close();
    [[nodiscard]] bool lost();
    // The socket, borrowed: for a forked child that must close it, and may touch nothing else.
    [[nodiscard]] int native_handle() const noexcept { return socket_.get(); }
    [[nodiscard]] const any_io_executor& executor() const noexcept { return executor_; }
    [[nodiscard]] tables_lock lock() { return tables_.lock(); }

    // What the forkserver told in its greeting. Set once, before the connection is shared.
    struct greeting_facts {
        server_info server;
        bool pidfd_tells_exit = false;  // a pidfd has the status once the child was reaped
        ipc::identity identity{};       // of the forkserver
    };
    void set_facts(greeting_facts facts) { facts_ = std::move(facts); }
    // Called once, by close(). Set once, before the connection is shared.
    void at_close(std::function<void()> act) { at_close_ = std::move(act); }
    [[nodiscard]] const greeting_facts& facts() const noexcept { return facts_; }

    // ---- requests
    ipc::request_id next_id() noexcept {
        return ipc::request_id(next_id_.fetch_add(1, std::memory_order_relaxed));
    }
    // Has `m` say what the caller is, once.
    [[nodiscard]] result<void> follow(outgoing& m) const;
    // Sends `m`; its reply goes to `op`. On failure `op` is not kept and not finished.
    result<void> submit(ipc::request_id id, outgoing& m, const std::shared_ptr<operation>& op);
    // Asks the forkserver to drop a request that is still queued.
    void request_cancel(ipc::request_id id);
    // Finishes the operation with `why` now; its reply, when it comes, is ignored.
    void withdraw(ipc::request_id id, failure why);
    // Helps the packets that the socket did not take at once out of the door.
    void flush_blocking(const deadline& d);
    [[nodiscard]] bool sends_blocked() const noexcept { return writer_.blocked(); }

    // ---- blocking; see blocking.hpp for the calls
    enum class awaited { ready, timed_out, descriptors };
    // Descriptors that a blocked call can poll beside the socket: a child's three pipes.
    static constexpr std::size_t k_most_also = 3;
    // Blocks until `w` is ready, the deadline, or until one of `also` is ready
    // (revents are set). Reads the socket meanwhile, or lets another thread do it.
    awaited await(tables_lock& held, waiter& w, const deadline& d, std::span<pollfd> also = {});
    // Reads what is there, if nobody else does. Does not block.
    void read_available();

    // ---- children
    // Has the listener told how `child` ends. From the reply to its spawn: so it is known
    // before any later packet is read.
    void expect_exit(ipc::child_id child, const std::shared_ptr<exit_listener>& told);
    // Its exit is known: tells the forkserver with the next request.
    void acknowledge(ipc::child_id child);
    // Tells that the lifetime of a child that has ended is not for what it left behind.
    void leave_rest(ipc::child_id child);

    // ---- leases; see lease_pool.hpp
    // What has come is read before there is none. In a forked copy of the program there is none.
    std::optional<lease> take_lease(const std::string& kind);
    std::size_t leases_to_ask_for(const std::string& kind);
    void lease_granted(const std::string& kind, lease&& l) {
        (void)leases_.granted(kind, std::move(l));
    }
    void lease_refused(const std::string& kind) { leases_.refused(kind); }

    // An asynchronous wait begins or ends.
    void add_interest(const tables_lock& held, const any_io_executor& io);
    void drop_interest(const tables_lock& held);

private:
    // ---- of the watcher
    void on_readable(std::uint64_t round) override;
    void on_writable() override;
    void on_context_gone(std::uint64_t round) override;

    // ---- reader.cpp
    awaited lead(tables_lock& held, waiter& w, const deadline& d, std::span<pollfd> also);
    awaited follow(tables_lock& held, waiter& w, const deadline& d, std::span<pollfd> also);
    void leave_role(const tables_lock& held);
    void drain(const waiter* until);
    void dispatch(reply&& r);
    void on_exits(const v1::ExitEvents& events);
    void send_acknowledgements(std::size_t at_least);

    void lose(failure why);
    void update_watch(const tables_lock& held);
    // The operation whose reply has come, or will not; null when there is none.
    std::shared_ptr<operation> take_pending(const tables_lock& held, ipc::request_id id);
    // True when nothing waits to be sent any more.
    bool flush();

    const unique_fd socket_;
    const owning_process owner_;
    const any_io_executor executor_;
    greeting_facts facts_;
    std::function<void()> at_close_;
    writer writer_;
    std::atomic<std::uint64_t> next_id_{1};
    ipc::receiver receiver_;  // of whoever has the role
    guarded<connection_tables> tables_;
    lease_pool leases_;
};

}  // namespace cleanfork::detail
