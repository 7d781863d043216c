#include "client/cli/commands/servers.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace cleanfork::cli {

namespace {

// A forkserver that hangs must not hold up a first command for long.
constexpr std::chrono::seconds k_default_socket_patience(2);

bool is_absent(const spawn_error& e) {
    return e.step() == step::connect &&
           (e.error_number() == ENOENT || e.error_number() == ECONNREFUSED);
}

bool is_executable(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(path, ignored) && ::access(path.c_str(), X_OK) == 0;
}

}  // namespace

chosen_server choose_server(boost::asio::any_io_executor executor, const server_choice& choice) {
    if (choice.socket) return {connect(executor, {.path = *choice.socket}), *choice.socket, {}};
    std::string note;
    if (!choice.only_private) {
        const std::string path = default_socket_path();
        try {
            return {
                connect(executor, {.path = path, .timeout = k_default_socket_patience}), path, {}};
        } catch (const spawn_error& e) {
            if (!is_absent(e)) note = explain(e, path) + "; using a private forkserver";
        }
    }
    return {launch(executor), {}, std::move(note)};
}

cleanfork::client join_server(const std::optional<std::string>& socket) {
    return connect({.path = socket.value_or(default_socket_path())});
}

std::string explain(const std::exception& e, const std::optional<std::string>& socket) {
    const auto* failed = dynamic_cast<const spawn_error*>(&e);
    if (failed == nullptr) return e.what();
    const std::string path = socket.value_or(default_socket_path());
    if (is_absent(*failed))
        return "no forkserver answers at " + path + ": start one with `cleanfork serve" +
               (socket ? " --socket " + *socket : "") + "`";
    if (failed->step() == step::connect || failed->step() == step::hello)
        return path + ": " + e.what();
    return e.what();
}

std::string find_daemon() {
    if (const char* named = ::secure_getenv("CLEANFORK_DAEMON"); named != nullptr && *named != '\0')
        return named;
    std::error_code error;
    const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
    if (!error)
        for (const char* place : {"cleanforkd", "../sbin/cleanforkd"})
            if (const auto path = self.parent_path() / place; is_executable(path))
                return path.lexically_normal();
    const char* search = std::getenv("PATH");
    std::istringstream directories(search != nullptr ? search : "");
    for (std::string directory; std::getline(directories, directory, ':');)
        if (const auto path =
                std::filesystem::path(directory.empty() ? "." : directory) / "cleanforkd";
            is_executable(path))
            return path;
    return {};
}

}  // namespace cleanfork::cli
