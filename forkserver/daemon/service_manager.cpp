#include "forkserver/daemon/service_manager.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// The variable, which is not there afterwards.
std::string taken(const char* name) {
    const char* const value = std::getenv(name);
    std::string text = value != nullptr ? value : "";
    ::unsetenv(name);
    return text;
}

std::uint64_t number_of(const std::string& text) {
    std::uint64_t number = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    return error == std::errc() && stop == end ? number : 0;
}

}  // namespace

service_manager::service_manager(event_loop& io) : again_(io, "watchdog", [this] { ping(); }) {
    const std::string path = taken("NOTIFY_SOCKET");
    const std::uint64_t period = number_of(taken("WATCHDOG_USEC"));
    const std::string whose = taken("WATCHDOG_PID");
    const bool usable = !path.empty() && (path[0] == '/' || path[0] == '@') &&
                        path.size() < sizeof address_.sun_path;
    if (!usable) return;
    address_.sun_family = AF_UNIX;
    std::memcpy(address_.sun_path, path.data(), path.size());
    if (path[0] == '@') address_.sun_path[0] = '\0';
    address_size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
    socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    // Twice in the time, as sd_watchdog_enabled(3) recommends.
    if (whose.empty() || number_of(whose) == static_cast<std::uint64_t>(::getpid()))
        watchdog_ = std::chrono::microseconds(period / 2);
}

void service_manager::ready(std::string_view status) {
    tell("READY=1\nSTATUS=" + std::string(status));
    if (watchdog_.count() > 0 && !again_.is_set()) ping();
}

void service_manager::reloading() {
    // The manager tells by the time which reload it is that READY=1 ends.
    tell("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(ipc::monotonic_ns() / 1000));
}

void service_manager::stopping() { tell("STOPPING=1\nSTATUS=Ending the children"); }

// Not waited for: a manager that does not read is no reason to stand still.
void service_manager::tell(std::string_view state) const {
    if (!socket_) return;
    ::sendto(socket_.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
             reinterpret_cast<const sockaddr*>(&address_), address_size_);
}

void service_manager::ping() {
    tell("WATCHDOG=1");
    again_.set_in(watchdog_);
}

}  // namespace cleanfork::daemon
