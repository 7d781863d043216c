// What a client knows of one child; shared by its handles, its waits and the connection's table.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <cleanfork/process.hpp>
#include <cleanfork/reports.hpp>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "client/src/connection/completion.hpp"
#include "client/src/connection/deadline.hpp"
#include "client/src/connection/waiter.hpp"

namespace cleanfork::detail {

// An asynchronous wait in progress.
struct pending_wait {
    std::uint64_t id;  // for its cancellation
    any_io_executor io;
    completion<wait_handler> done;
};

// The members after `pidfd` are protected by the connection's mutex.
struct child_state : std::enable_shared_from_this<child_state> {
    child_state(std::shared_ptr<connection> c, std::uint64_t number, pid_t p, unique_fd fd)
        : owner(std::move(c)), id(number), pid(p), pidfd(std::move(fd)) {}

    const std::shared_ptr<connection> owner;
    const std::uint64_t id;
    const pid_t pid;
    const unique_fd pidfd;  // empty when the exit came with the reply

    std::optional<exit_status> status;
    resource_usage usage;
    std::chrono::nanoseconds wall{};
    std::string error;                    // of a call: the exception of its entry
    std::vector<waiter*> waiters;         // blocked threads
    std::list<pending_wait> async_waits;  // handlers; these do not move
    std::uint64_t next_wait = 1;
    // Once the forkserver is lost: watches the pidfd for the asynchronous waits.
    std::unique_ptr<boost::asio::posix::stream_descriptor> watch;

    // Blocks until the child has ended; nullopt at the deadline.
    std::optional<exit_status> wait(const deadline& d);
    // With the mutex held, or before the child is shared.
    void take(wait_result&& end);
    // The status if it is known, or can be without blocking.
    std::optional<exit_status> known();
    void start_wait(wait_handler handler);
    void cancel_wait(std::uint64_t wait_id);

    // The forkserver told. Wakes every waiter; without the mutex.
    void ended(wait_result&& end);
    // The forkserver was lost: the pidfd alone tells from now on.
    void orphaned();

    // 0, or errno.
    int signal(int number) const noexcept;

private:
    [[nodiscard]] std::optional<exit_status> wait_by_pidfd(const deadline& d);
    [[nodiscard]] exit_status status_by_pidfd() const;
    void watch_pidfd();
    void on_pidfd(boost::system::error_code ec);
    static void complete(std::list<pending_wait>&& waits, boost::system::error_code ec,
                         const exit_status& s);
};

}  // namespace cleanfork::detail
