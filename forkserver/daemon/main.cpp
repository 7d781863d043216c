// cleanforkd: the forkserver.
#include <malloc.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <boost/system/system_error.hpp>
#include <csignal>
#include <iostream>
#include <optional>

#include "forkserver/daemon/configuration.hpp"
#include "forkserver/daemon/listener.hpp"
#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/log_writer.hpp"
#include "forkserver/daemon/loop/boundary.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/daemon/loop/memory_reserve.hpp"
#include "forkserver/daemon/loop/watched_fd.hpp"
#include "forkserver/daemon/options.hpp"
#include "forkserver/daemon/server.hpp"
#include "forkserver/daemon/service_manager.hpp"
#include "forkserver/daemon/startup.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/message.hpp"

namespace cleanfork::daemon {

namespace {

class signal_reader {
public:
    signal_reader(event_loop& io, unique_fd fd, server& s, std::function<void()> reload)
        : io_(io), signals_(io, "signals"), server_(s), reload_(std::move(reload)) {
        if (const int e = signals_.take(fd))
            throw boost::system::system_error(e, boost::system::system_category(), "signalfd");
        await();
    }

private:
    void await() {
        signals_.await([this] {
            bounded(io_, "signals", [this] { take(); });
            await();
        });
    }
    void take() {
        signalfd_siginfo info{};
        while (::read(signals_.fd(), &info, sizeof info) == sizeof info) {
            const int number = static_cast<int>(info.ssi_signo);
            if (number == SIGHUP)
                reload_();
            else
                server_.shut_down(number == SIGTERM ? "SIGTERM" : "SIGINT");
        }
    }

    event_loop& io_;
    watched_fd signals_;
    server& server_;
    std::function<void()> reload_;
};

// The server with what feeds it, from its start to its end.
class service final : private server_owner, private listener_owner {
public:
    service(const options& o, const server_config& config, spawn::launcher launcher,
            unique_fd signals, logger& log)
        : io_(&log),
          log_(log),
          manager_(io_),
          server_(io_, config, std::move(launcher), log, *this),
          configuration_(o, server_, log),
          reader_(io_, std::move(signals), server_, [this] { reload(); }) {}

    result<void> run(const options& o, endpoints& ends) {
        if (auto begun = server_.begin(); !begun) return begun;
        configuration_.begin();
        if (ends.listening)
            listen(std::move(*ends.listening));
        else if (auto r = serve_owner(o, ends); !r)
            return r;
        io_.run([this](std::uint64_t ns) { server_.on_turn(ns); });
        return {};
    }

private:
    void listen(listening_socket socket) {
        const std::string path = socket.path;
        accepting_.emplace(io_, std::move(socket), log_, static_cast<listener_owner&>(*this));
        status_ = "Serving " + path;
        manager_.ready(status_);
        log_.info(
            "listening",
            {{"socket", path}, {"pid", std::int64_t{::getpid()}}, {"version", CLEANFORK_VERSION}});
    }
    void reload() {
        manager_.reloading();
        bounded(io_, "reload", [this] { configuration_.reload(); });
        manager_.ready(status_);
    }
    result<void> serve_owner(const options& o, endpoints& ends) {
        server_.add_session(std::move(ends.private_socket));
        if (!ends.early) return {};
        return server_.add_early_template(o.early_name, o.early_pid, std::move(ends.early));
    }

    void on_connection(unique_fd socket) override { server_.add_session(std::move(socket)); }
    void on_refused(unique_fd socket) override { server_.refuse(std::move(socket)); }
    void on_shutdown() override {
        if (!accepting_) return;
        accepting_->close();
        manager_.stopping();
    }
    void on_finished() override {
        post_bounded(io_, "end", [this] { io_.stop(); });
    }

    event_loop io_;
    logger& log_;
    service_manager manager_;
    std::string status_;  // for people
    server server_;
    configuration configuration_;
    signal_reader reader_;
    std::optional<listener> accepting_;
};

// A large request has memory of its own, which goes back to the system with it: in the heap what
// lies above would keep it.
constexpr int k_own_mapping = 96 * 1024;

result<void> serve(const options& o, endpoints& ends, logger& log) {
    ::mallopt(M_MMAP_THRESHOLD, k_own_mapping);
    const std::uint64_t soft_limit = ipc::raise_descriptor_limit();
    log.output().attach();
    auto signals = block_signals();
    if (!signals) return signals.error();
    std::vector<std::string> unknown;
    rlimit descriptors{};
    ::getrlimit(RLIMIT_NOFILE, &descriptors);
    const server_config config{fitted_to_process(o.set.most), descriptors.rlim_cur,
                               ipc::probe_features(&unknown), CLEANFORK_VERSION,
                               bool(ends.private_socket)};
    for (const std::string& name : unknown) log.warning("unknown_feature", {{"name", name}});
    auto launcher = spawn::launcher::create(config.features, soft_limit);
    if (!launcher) return launcher.error();
    const auto own = [&](unique_fd& fd) { fd = launcher->own_descriptor(std::move(fd)); };
    own(*signals);
    if (log.output().own()) own(log.output().own());
    if (ends.listening) own(ends.listening->socket);
    service s(o, config, std::move(*launcher), std::move(*signals), log);
    if (auto r = s.run(o, ends); !r) return r;
    log.info("ended");
    return {};
}

// To who has launched it, and learns of a failed start in no other way.
void tell(int private_socket, const failure& f) {
    v1::ServerMessage m;
    ipc::to_wire(f, *m.mutable_failure());
    if (const auto e = ipc::encode(m)) ipc::send(private_socket, *e, {});
}

int failed(const endpoints& ends, logger& log, const failure& f) {
    if (ends.private_socket) tell(ends.private_socket.get(), f);
    log.error("failed", {{"why", f.message()}});
    return 1;
}

failure as_failure(const boost::system::system_error& e) {
    const bool is_errno = e.code().category() == boost::system::system_category();
    return ipc::fail(step::launch, is_errno ? e.code().value() : 0, "event loop",
                     is_errno ? "" : e.what());
}

int run(int argc, char** argv) {
    options o;
    if (const auto done = parse(argc, argv, o)) return *done;
    logger log(o.set.least);
    become_clean();
    memory_reserve::keep();
    auto ends = open_endpoints(o);
    if (!ends) {
        std::cerr << "cleanforkd: " << ends.error().message() << '\n';
        if (o.private_fd >= 0) tell(o.private_fd, ends.error());
        return 1;
    }
    // With an early template this process is its parent already, and nobody's child.
    if (ends->private_socket && !ends->early && !o.stay)
        if (auto r = leave_parent(); !r) return failed(*ends, log, r.error());
    try {
        if (auto r = serve(o, *ends, log); !r) return failed(*ends, log, r.error());
    } catch (const boost::system::system_error& e) {
        return failed(*ends, log, as_failure(e));
    }
    return 0;
}

}  // namespace
}  // namespace cleanfork::daemon

int main(int argc, char** argv) {
    try {
        if (const auto done = cleanfork::daemon::write_log_if_asked(argc, argv)) return *done;
        return cleanfork::daemon::run(argc, argv);
    } catch (const std::exception& e) {
        std::cerr << "cleanforkd: " << e.what() << '\n';
        return 1;
    }
}
