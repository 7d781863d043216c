#include "client/cli/commands/servers.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "ipc/base/proc.hpp"

namespace cleanfork::cli {

namespace {

// A forkserver that hangs must not hold up a first command for long.
constexpr std::chrono::seconds k_default_socket_patience(2);

bool is_in_our_session(pid_t server) {
    return is_a_forkserver(server) && ::getsid(server) == ::getsid(0);
}

}  // namespace

bool is_absent(const failure& f) {
    return f.step == step::connect && (f.error_number == ENOENT || f.error_number == ECONNREFUSED);
}

chosen_server choose_server(boost::asio::any_io_executor executor, const server_choice& choice) {
    const auto joined = [&](const std::string& path, std::chrono::seconds patience) {
        chosen_server s{connect(executor, {.path = path, .timeout = patience}), path, {}};
        s.same_session = is_in_our_session(s.client.server().pid);
        return s;
    };
    if (choice.socket) return joined(*choice.socket, k_patience);
    std::string note;
    if (!choice.only_private) {
        const std::string path = default_socket_path();
        try {
            chosen_server s = joined(path, k_default_socket_patience);
            if (s.same_session || !choice.in_job) return s;
        } catch (const spawn_error& e) {
            if (!is_absent(e.why())) note = explain(e.why(), path) + "; using a private forkserver";
        }
    }
    return {launch(executor, {.share_session = choice.in_job}), {}, std::move(note), choice.in_job};
}

client join_server(const std::optional<std::string>& socket) { return join_server({}, socket); }

cleanfork::client join_server(boost::asio::any_io_executor executor,
                              const std::optional<std::string>& socket) {
    return connect(std::move(executor),
                   {.path = socket.value_or(default_socket_path()), .timeout = k_patience});
}

std::string explain(const failure& f, const std::optional<std::string>& socket) {
    const std::string path = socket.value_or(default_socket_path());
    if (is_absent(f))
        return "no forkserver answers at " + path + ": start one with `cleanfork serve" +
               (socket ? " --socket " + *socket : "") + "`";
    const bool silent = f.error_number == ETIMEDOUT && f.step != step::wait;
    if (f.step == step::connect || f.step == step::hello || silent)
        return path + ": " + f.message() +
               (silent ? ": the forkserver is stopped, hangs or is overloaded" : "");
    return f.message();
}

}  // namespace cleanfork::cli
