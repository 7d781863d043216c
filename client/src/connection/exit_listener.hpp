// Whoever waits for the end of a child, as the connection sees it.
#pragma once

#include <cleanfork/process.hpp>
#include <cleanfork/reports.hpp>
#include <list>

#include "client/src/connection/completion.hpp"
#include "client/src/connection/waiter.hpp"

namespace cleanfork::detail {

// An asynchronous wait in progress.
struct pending_wait {
    std::uint64_t number;  // among those of its child, for its cancellation
    any_io_executor io;
    completion<wait_handler> done;
};

class exit_listener {
public:
    virtual ~exit_listener() = default;
    // The forkserver told. Called without the lock.
    virtual void ended(wait_result&& end) = 0;
    // The connection is lost, and nobody will tell. Called without the lock.
    virtual void orphaned() = 0;
    // The context of the asynchronous waits is being destroyed: they are given up, uncalled.
    virtual std::list<pending_wait> give_up_waits(const tables_lock& held) = 0;
};

}  // namespace cleanfork::detail
