// A whole server in the process of a fuzz target, and what it takes for a template.
#pragma once

#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "forkserver/daemon/server.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/message.hpp"
#include "tests/fuzz/processes.hpp"
#include "tests/fuzz/seeds.hpp"

namespace cleanfork::fuzz {

// Makes a server, lets `drive` use it, and ends it: no process and no descriptor stays.
inline void serve(const daemon::quotas& quotas,
                  const std::function<void(boost::asio::io_context&, daemon::server&)>& drive) {
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
        auto watch = daemon::child_table::create_watch();
        require(launcher.has_value() && watch.has_value(), "a server can be made");
        boost::asio::io_context io(1);
        nobody owner;
        daemon::server s(io, config, std::move(*launcher), std::move(*watch), log, owner);
        drive(io, s);
        // Until it has reaped all, those too that close descriptors for it: what is left to them
        // at its end is left to the end of the process.
        do {
            io.restart();
            io.run_for(std::chrono::milliseconds(1));
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
        if (pid_ == 0)
            for (;;) ::pause();
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
