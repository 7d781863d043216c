#include "client/cli/foreground/server_watch.hpp"

#include <fcntl.h>

#include <cerrno>

#include "ipc/base/proc.hpp"
#include "ipc/base/process_stat.hpp"

namespace cleanfork::cli {

namespace {

constexpr std::chrono::seconds k_pause(2);

}  // namespace

std::string name_of_server(const client& server, const std::string& socket) {
    const std::string pid = "forkserver (pid " + std::to_string(server.server().pid) + ")";
    return socket.empty() ? "the private " + pid : "the " + pid + " at " + socket;
}

bool is_a_forkserver(pid_t pid) {
    return ipc::read_line(AT_FDCWD, "/proc/" + std::to_string(pid) + "/comm") == "cleanforkd";
}

bool is_stopped(pid_t server) {
    if (!is_a_forkserver(server)) return false;
    const auto stat = ipc::stat_of(server);
    return stat && stat->is_stopped();
}

std::string state_of_server(pid_t server) {
    return is_stopped(server) ? "it is stopped" : "it hangs or is overloaded";
}

failure silence_of(const client& server, const std::string& socket) {
    return {step::wait,
            ETIMEDOUT,
            {},
            name_of_server(server, socket) + " has not answered for " +
                std::to_string(k_patience.count()) + " s: " + state_of_server(server.server().pid)};
}

// Shared with what is under way, which may complete later than the watch is there.
struct server_watch::state {
    state(boost::asio::io_context& io, const client& s, std::function<void()> f)
        : server(s), silent(std::move(f)), timer(io) {}

    const client& server;
    std::function<void()> silent;
    boost::asio::steady_timer timer;
    bool watching = false, answered = true;
};

server_watch::server_watch(boost::asio::io_context& io, const client& server,
                           std::function<void()> silent)
    : state_(std::make_shared<state>(io, server, std::move(silent))) {}

server_watch::~server_watch() { stop(); }

void server_watch::start() {
    if (std::exchange(state_->watching, true)) return;
    state_->answered = true;
    ask(state_);
}

void server_watch::stop() noexcept {
    state_->watching = false;
    state_->timer.cancel();
}

void server_watch::ask(const std::shared_ptr<state>& s) {
    s->answered = false;
    // A forkserver that is lost fails what is awaited by itself.
    s->server.async_stats([s](const std::exception_ptr&, const server_stats&) {
        s->answered = true;
        if (!s->watching) return;
        s->timer.expires_after(k_pause);
        s->timer.async_wait([s](const boost::system::error_code& ec) {
            if (!ec && s->watching) ask(s);
        });
    });
    s->timer.expires_after(k_patience);
    s->timer.async_wait([s](const boost::system::error_code& ec) {
        if (ec || !s->watching || s->answered) return;
        s->watching = false;
        s->silent();
    });
}

}  // namespace cleanfork::cli
