// Starts programs anew when they have ended, as the same child.
#pragma once

#include <set>
#include <utility>

#include "forkserver/daemon/children/births.hpp"
#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/spawn/disposal.hpp"
#include "forkserver/spawn/launcher.hpp"

namespace cleanfork::daemon {

// What the restarts tell their owner.
class restarts_owner {
public:
    // A child that was to be started anew will not be: its `exit` is that of its last process.
    virtual void on_over(child& c) = 0;
    virtual void on_restarts_drained() = 0;

protected:
    ~restarts_owner() = default;
};

class restarts {
public:
    restarts(event_loop& io, spawn::launcher& launcher, child_table& children, births& begin,
             spawn::shared_disposal disposal, logger& log, restarts_owner& owner);

    // Empty when the request wants no restarts. Its descriptors are copied, and the copies kept
    // until the child is over: a pipe that it writes to does not end before that.
    result<std::unique_ptr<child_restart>> prepare(const v1::SpawnRequest& request,
                                                   const std::vector<int>& purposes,
                                                   const spawn::shared_descriptors& descriptors,
                                                   std::shared_ptr<const spawn::session_base> base);

    // A child with restarts has ended. True when it is to be started anew: it is no exit then.
    bool takes(child& c);
    // It is not started anew any more. One that waited for that is over now.
    void stop(child& c);
    void stop_all();
    // True for the signals by which one asks for the end, and not for something else.
    static bool asks_to_end(const child& c, int signal);

    // That are kept for the starts to come.
    [[nodiscard]] std::size_t descriptors() const noexcept { return *descriptors_; }

private:
    void arm();
    void start_due();
    class late_start;
    void start_or_fail(child_id id);
    void start(child& c);
    void begun(child_id id, result<spawn::spawned> process);
    void fail(child& c, const failure& why);
    void discard(spawn::spawned process);
    void over(child& c);

    event_loop& io_;
    bounded_timer due_again_;
    spawn::launcher& launcher_;
    child_table& children_;
    births& births_;
    spawn::shared_disposal disposal_;
    logger& log_;
    restarts_owner& owner_;
    std::set<std::pair<steady::time_point, child_id>> due_;
    std::shared_ptr<std::size_t> descriptors_ = std::make_shared<std::size_t>(0);
};

}  // namespace cleanfork::daemon
