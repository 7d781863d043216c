// What the manager of services that has started cleanforkd is told (sd_notify(3)), and its
// watchdog.
#pragma once

#include <sys/un.h>

#include <chrono>
#include <cleanfork/unique_fd.hpp>
#include <string_view>

#include "forkserver/daemon/loop/bounded_timer.hpp"

namespace cleanfork::daemon {

// Without a manager it does nothing: no descriptor, no timer, no wake-up.
class service_manager {
public:
    // Of $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID, which it takes out of the environment:
    // they are of this process, and of none that it starts.
    explicit service_manager(event_loop& io);

    // The watchdog runs from here on: that the loop turns is what it looks at.
    void ready(std::string_view status);
    void reloading();
    void stopping();

private:
    void tell(std::string_view state) const;
    void ping();

    sockaddr_un address_{};
    socklen_t address_size_ = 0;
    unique_fd socket_;  // held, so that there is one when descriptors are used up
    std::chrono::microseconds watchdog_{};  // how often; 0: there is none
    bounded_timer again_;
};

}  // namespace cleanfork::daemon
