#include "ipc/base/fd.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <string>

using namespace cleanfork;
using namespace cleanfork::ipc;

namespace {

socket_pair connected() {
    auto pair = seqpacket_pair();
    REQUIRE(pair.has_value());
    return std::move(*pair);
}

}  // namespace

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

TEST_CASE("a copy of a descriptor is CLOEXEC, and never a standard stream") {
    const unique_fd copy = dup_fd(STDIN_FILENO);
    REQUIRE(copy);
    CHECK(copy.get() > STDERR_FILENO);
    CHECK((::fcntl(copy.get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_FALSE(dup_fd(-1));
    CHECK(errno == EBADF);
}

TEST_CASE("set_nonblocking leaves the other flags as they are") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC | O_DIRECT) == 0);
    const unique_fd reader(ends[0]), writer(ends[1]);
    CHECK(set_nonblocking(writer.get()) == 0);
    CHECK((::fcntl(writer.get(), F_GETFL) & (O_NONBLOCK | O_DIRECT | O_ACCMODE)) ==
          (O_NONBLOCK | O_DIRECT | O_WRONLY));
    CHECK(set_nonblocking(-1) == EBADF);
}

TEST_CASE("write_all tells the errno that kept it from writing all") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    unique_fd reader(ends[0]);
    const unique_fd writer(ends[1]);
    CHECK(write_all(writer.get(), "some bytes") == 0);
    char bytes[16];
    CHECK(::read(reader.get(), bytes, sizeof bytes) == 10);
    reader.reset();
    auto* const before = std::signal(SIGPIPE, SIG_IGN);
    CHECK(write_all(writer.get(), "more") == EPIPE);
    std::signal(SIGPIPE, before);
    CHECK(write_all(-1, "") == 0);
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
