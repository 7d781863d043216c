// Closes descriptors that came from clients: here what cannot wait, all else in processes.
//
// One process at first, started when it is needed and gone after two idle seconds; another when
// what was given is not taken, since the others wait for something. They take from one socket, so
// that nothing is behind one that waits.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <list>
#include <optional>
#include <vector>

#include "forkserver/daemon/closer.hpp"
#include "forkserver/daemon/closing_kinds.hpp"
#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/watched_fd.hpp"
#include "forkserver/spawn/disposal.hpp"
#include "forkserver/spawn/launcher.hpp"

namespace cleanfork::daemon {

class closers final : public spawn::disposal {
public:
    closers(boost::asio::io_context& io, const spawn::launcher& launcher, logger& log);
    ~closers() override;
    closers(const closers&) = delete;
    closers& operator=(const closers&) = delete;

    using disposal::dispose;
    void dispose(std::vector<unique_fd> fds) noexcept override;

    // Why no more descriptors can be taken in; step::none: they can.
    [[nodiscard]] failure refusal() const;

    // The end of this process is near, and closes what is left: the kernel lets no socket of a
    // process that ends linger.
    void stop() noexcept;

private:
    using clock = std::chrono::steady_clock;
    struct process {
        explicit process(boost::asio::io_context& io) : pidfd(io, "closers") {}
        pid_t pid = -1;
        watched_fd pidfd;
    };

    void start();
    void reap_unwatched();
    void await_end(std::list<process>::iterator p);
    void give();
    [[nodiscard]] bool untaken() const;
    void arm();
    void look();

    boost::asio::io_context& io_;
    const spawn::launcher& launcher_;
    logger& log_;
    closing_kinds kinds_;
    closing_board* board_ = nullptr;
    std::uint64_t number_ = 0;
    unique_fd ours_, theirs_;
    std::list<process> processes_;
    std::vector<unique_fd> waiting_;
    bounded_timer look_again_;
    bool stopped_ = false;
    std::optional<clock::time_point> untaken_since_;
    bool told_ = false;
};

}  // namespace cleanfork::daemon
