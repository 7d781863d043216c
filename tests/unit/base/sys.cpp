// The small things both sides stand on: paths, features, descriptors, pidfds.
#include "ipc/base/sys.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "ipc/base/features.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/wire/socket_path.hpp"
#include "tests/helpers/patience.hpp"

using namespace cleanfork;
using namespace cleanfork::ipc;

namespace {

socket_pair connected() {
    auto pair = seqpacket_pair();
    REQUIRE(pair.has_value());
    return std::move(*pair);
}

// Sets a variable, or unsets it with null, and puts it back.
class variable {
public:
    variable(const char* name, const char* value) : name_(name) {
        const char* old = std::getenv(name);
        if (old != nullptr) old_ = old;
        had_ = old != nullptr;
        value != nullptr ? ::setenv(name, value, 1) : ::unsetenv(name);
    }
    ~variable() { had_ ? ::setenv(name_, old_.c_str(), 1) : ::unsetenv(name_); }
    variable(const variable&) = delete;
    variable& operator=(const variable&) = delete;

private:
    const char* name_;
    std::string old_;
    bool had_ = false;
};

pid_t spawn_shell(const char* script) {
    pid_t pid = -1;
    const char* argv[] = {"/bin/sh", "-c", script, nullptr};
    REQUIRE(::posix_spawn(&pid, "/bin/sh", nullptr, nullptr, const_cast<char**>(argv), environ) ==
            0);
    return pid;
}

}  // namespace

TEST_CASE("the default socket is the one asked for, else of the runtime directory, never of /tmp") {
    {
        const variable a("CLEANFORK_SOCKET", "/somewhere/s");
        CHECK(default_socket_path() == "/somewhere/s");
    }
    const variable none("CLEANFORK_SOCKET", nullptr);
    {
        const variable b("XDG_RUNTIME_DIR", "/run/user/7");
        CHECK(default_socket_path() == "/run/user/7/cleanfork/socket");
    }
    const variable neither("XDG_RUNTIME_DIR", nullptr);
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

TEST_CASE("features are forced off by name, and unknown names are told") {
    const variable v("CLEANFORK_DISABLE_FEATURES", "execveat,no_such_feature,cgroup_kill");
    CHECK(disabled_by_environment(feature::execveat));
    CHECK(disabled_by_environment(feature::cgroup_kill));
    CHECK_FALSE(disabled_by_environment(feature::pidfd_exit_info));
    std::vector<std::string> unknown;
    const feature_set set = probe_features(&unknown);
    CHECK(unknown == std::vector<std::string>{"no_such_feature"});
    CHECK_FALSE(set.has(feature::execveat));
    CHECK_FALSE(set.has(feature::cgroup_kill));
}

TEST_CASE("probing leaves no process and no descriptor behind") {
    const std::size_t before = open_descriptor_count();
    probe_features();
    CHECK(open_descriptor_count() == before);
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
    CHECK(errno == ECHILD);
}

TEST_CASE("every feature has a name, a kernel, a use and a fallback to show") {
    for (const feature f : k_all_features) {
        CHECK_FALSE(describe(f).name.empty());
        CHECK_FALSE(describe(f).since.empty());
        CHECK_FALSE(describe(f).gives.empty());
        CHECK_FALSE(describe(f).fallback.empty());
    }
}

TEST_CASE("move_up moves above the minimum with CLOEXEC, and keeps what it cannot move") {
    const std::size_t before = open_descriptor_count();
    unique_fd fd(::open("/dev/null", O_RDONLY));
    const int at = fd.get();
    fd = move_up(std::move(fd), 300);
    CHECK(fd.get() >= 300);
    CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(::fcntl(at, F_GETFD) == -1);
    CHECK(open_descriptor_count() == before + 1);
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const int moved = fd.get();
    fd = move_up(std::move(fd), static_cast<int>(limit.rlim_cur) + 10);
    CHECK(fd.get() == moved);
    CHECK(::fcntl(fd.get(), F_GETFD) >= 0);
}

TEST_CASE("a pidfd tells the end, and after the reap the status, where the kernel can") {
    const feature_set features = probe_features();
    const pid_t pid = spawn_shell("kill -HUP $$");
    const unique_fd fd = pidfd_open(pid);
    REQUIRE(pidfd_wait(fd.get(), false, test::k_patience_ms));
    CHECK_FALSE(pidfd_wait(fd.get(), true, 0));  // a zombie yet
    CHECK_FALSE(pidfd_exit_status(fd.get()).has_value());
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    CHECK(pidfd_signal(fd.get(), 0) == ESRCH);
    if (!features.has(feature::pidfd_exit_info)) {
        MESSAGE("not checked: this kernel has no exit information of pidfds");
        return;
    }
    CHECK(pidfd_wait(fd.get(), true, test::k_patience_ms));
    CHECK(pidfd_exit_status(fd.get()) == status);
}

TEST_CASE("the peer of a socket pair is this process") {
    const auto pair = connected();
    const auto p = peer_of(pair.first.get());
    REQUIRE(p.has_value());
    CHECK(p->uid == ::geteuid());
    CHECK(p->pid == ::getpid());
    const unique_fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    CHECK_FALSE(peer_of(null.get()).has_value());
}
