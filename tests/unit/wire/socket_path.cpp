#include "ipc/wire/socket_path.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cerrno>

#include "tests/unit/environment_variable.hpp"

using namespace cleanfork;
using namespace cleanfork::ipc;

TEST_CASE("the default socket is the one asked for, else of the runtime directory, never of /tmp") {
    {
        const environment_variable a("CLEANFORK_SOCKET", "/somewhere/s");
        CHECK(default_socket_path() == "/somewhere/s");
    }
    const environment_variable none("CLEANFORK_SOCKET", nullptr);
    {
        const environment_variable b("XDG_RUNTIME_DIR", "/run/user/7");
        CHECK(default_socket_path() == "/run/user/7/cleanfork/socket");
    }
    const environment_variable neither("XDG_RUNTIME_DIR", nullptr);
    CHECK(default_socket_path() ==
          (::geteuid() == 0 ? "/run/cleanfork/socket"
                            : "/run/user/" + std::to_string(::geteuid()) + "/cleanfork/socket"));
}

TEST_CASE("a socket path has at most 107 bytes") {
    CHECK(socket_address("/" + std::string(106, 'x')).has_value());
    const auto longer = socket_address("/" + std::string(107, 'x'));
    REQUIRE_FALSE(longer.has_value());
    CHECK(longer.error().error_number == ENAMETOOLONG);
}
