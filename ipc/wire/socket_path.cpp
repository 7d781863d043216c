#include "ipc/wire/socket_path.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

std::string default_socket_path() {
    if (const char* set = ::secure_getenv("CLEANFORK_SOCKET"); set != nullptr && *set != '\0')
        return set;
    if (const char* dir = ::secure_getenv("XDG_RUNTIME_DIR"); dir != nullptr && *dir == '/')
        return std::string(dir) + "/cleanfork/socket";
    if (::geteuid() == 0) return "/run/cleanfork/socket";
    return "/run/user/" + std::to_string(::geteuid()) + "/cleanfork/socket";
}

result<sockaddr_un> socket_address(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.find('\0') != std::string::npos)
        return fail(step::connect, EINVAL, path, "a socket path is not empty and holds no NUL");
    if (path.size() >= sizeof address.sun_path)
        return fail(step::connect, ENAMETOOLONG, path,
                    "a socket path has at most 107 bytes: choose a shorter directory");
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    return address;
}

}  // namespace cleanfork::ipc
