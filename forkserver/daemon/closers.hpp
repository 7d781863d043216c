// Closes descriptors that came from clients: what cannot wait here, all else in processes of its
// own (closer.hpp).
//
// There is one of these for what is at hand. One that takes long is left with what it is at: a
// socket that lingers stops waiting when its process is killed, and goes on to send by itself; all
// else may take its time, and what was behind it is given to another, of which there may be eight.
#pragma once

#include <chrono>
#include <list>
#include <optional>
#include <vector>

#include "forkserver/daemon/closer.hpp"
#include "forkserver/daemon/closing_kinds.hpp"
#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/spawn/disposal.hpp"

namespace cleanfork::daemon {

class closers final : public spawn::disposal {
public:
    // `null`: /dev/null, open as long as this object is.
    closers(event_loop& io, int null, logger& log);
    ~closers() override = default;
    closers(const closers&) = delete;
    closers& operator=(const closers&) = delete;

    using disposal::dispose;
    void dispose(std::vector<unique_fd> fds) noexcept override;

    // It is of a kind that waits for nobody.
    [[nodiscard]] bool closes_at_once(int fd) { return kinds_.closes_at_once(fd); }
    // Why no more descriptors can be taken in; step::none: they can.
    [[nodiscard]] failure refusal() const;

    // The end of this process is near, and closes what is left: the kernel lets no socket of a
    // process that ends linger.
    void stop() noexcept;

private:
    using clock = closer::clock;

    void work();
    void begin();
    void look();
    bool look_at(closer& c);
    void tell();

    event_loop& io_;
    const int null_;
    logger& log_;
    closing_kinds kinds_;
    std::list<closer> processes_;
    std::vector<closer::item> waiting_;
    bounded_timer look_again_;
    bool stopped_ = false;
    std::optional<clock::time_point> full_since_;
    bool told_ = false;
};

}  // namespace cleanfork::daemon
