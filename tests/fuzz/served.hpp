// A whole server in the process of a fuzz target, and what it takes for a template.
#pragma once

#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/daemon/server.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/message.hpp"
#include "tests/fuzz/processes.hpp"
#include "tests/fuzz/seeds.hpp"

namespace cleanfork::fuzz {

inline void do_what_is_at_hand(daemon::event_loop& io) {
    while (io.run_once({})) {
    }
}

// Makes a server, lets `drive` use it, and ends it: no process and no descriptor stays.
inline void serve(const daemon::quotas& quotas,
                  const std::function<void(daemon::event_loop&, daemon::server&)>& drive) {
    struct nobody final : daemon::server_owner {
        void on_shutdown() override {}
        void on_finished() override {}
    };
    static daemon::logger log(daemon::log_level::error);
    static const ipc::feature_set features = ipc::probe_features();
    const std::size_t before = ipc::open_descriptor_count();
    const std::set<pid_t> spared = child_processes();
    {
        daemon::server_config config;
        config.features = features;
        config.version = "fuzz";
        config.quotas = quotas;
        auto launcher = spawn::launcher::create(features, 1024);
        require(launcher.has_value(), "a server can be made");
        daemon::event_loop io;
        nobody owner;
        daemon::server s(io, config, std::move(*launcher), log, owner);
        drive(io, s);
        // Until it has reaped all, those too that close descriptors for it: what is left to them
        // at its end is left to the end of the process.
        do {
            (void)io.run_once(std::chrono::milliseconds(1));
        } while (kill_all_but(spared));
    }
    reap_all_but(spared);
    require(ipc::open_descriptor_count() == before, "no descriptor is lost");
}

// The early template "e": a process that sleeps, for which this one speaks.
class false_template {
public:
    explicit false_template(daemon::server& s) {
        auto pair = ipc::seqpacket_pair();
        pid_ = ::fork();
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;) ::pause();
        }
        pidfd_ = ipc::pidfd_open(pid_);
        require(bool(s.add_early_template("e", pid_, std::move(pair->second))),
                "an early template is taken in");
        socket_ = std::move(pair->first);
    }
    [[nodiscard]] pid_t pid() const { return pid_; }
    // Each descriptor is a pidfd of the process.
    void tell(const std::string& packet, std::size_t descriptors) {
        if (!socket_ || packet.empty()) return;
        ipc::send_packet(socket_.get(), packet, std::vector<int>(descriptors, pidfd_.get()));
    }
    void read_all() {
        while (socket_ && reader_.receive(socket_.get()).status == ipc::receive_status::packet) {
        }
    }
    void hang_up() { socket_.reset(); }

private:
    pid_t pid_ = 0;
    unique_fd pidfd_, socket_;
    ipc::receiver reader_;
};

}  // namespace cleanfork::fuzz
