// Finds out that a forkserver has stopped to answer, while something is awaited that may rightly
// take long: a spawn in a queue, a template that starts, the end of a child.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cleanfork/client.hpp>
#include <functional>
#include <memory>
#include <string>

namespace cleanfork::cli {

// So long a forkserver may take to answer what it answers at once when it is well.
inline constexpr std::chrono::seconds k_patience(5);
// What one who has pressed Ctrl-C may wait for it.
inline constexpr std::chrono::milliseconds k_patience_of_a_person(500);

// "the forkserver (pid 12) at /run/user/0/cleanfork/socket"; without a socket it is private.
std::string name_of_server(const client& server, const std::string& socket);
// In another PID namespace the number may be another process's. As far as /proc tells.
bool is_a_forkserver(pid_t pid);
// One of which that is known.
bool is_stopped(pid_t server);
// "it is stopped", as far as /proc tells; else that it hangs.
std::string state_of_server(pid_t server);
// The failure of a request that nobody answers.
failure silence_of(const client& server, const std::string& socket);

// Asks the forkserver for its figures, every two seconds, and calls silent() once when an answer
// takes longer than k_patience. All are borrowed; `server` completes on `io`.
class server_watch {
public:
    server_watch(boost::asio::io_context& io, const client& server, std::function<void()> silent);
    ~server_watch();
    server_watch(const server_watch&) = delete;
    server_watch& operator=(const server_watch&) = delete;

    void start();
    void stop() noexcept;

private:
    struct state;
    static void ask(const std::shared_ptr<state>& s);

    std::shared_ptr<state> state_;
};

}  // namespace cleanfork::cli
