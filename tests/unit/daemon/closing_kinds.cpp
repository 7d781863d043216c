// Which descriptors are closed by the loop itself.
#include "forkserver/daemon/closing_kinds.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cleanfork/unique_fd.hpp>
#include <cstdlib>
#include <string>

using namespace cleanfork;
using namespace cleanfork::daemon;

namespace {

unique_fd unlinked_file(off_t size) {
    std::string path = "/tmp/cleanfork-unit-XXXXXX";
    unique_fd fd(::mkostemp(path.data(), O_CLOEXEC));
    REQUIRE(fd);
    ::unlink(path.c_str());
    REQUIRE(::ftruncate(fd.get(), size) == 0);
    return fd;
}

}  // namespace

TEST_CASE("pipes, /dev/null, memfds, files and directories are closed at once") {
    closing_kinds kinds;
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const unique_fd in(ends[0]), out(ends[1]);
    CHECK(kinds.closes_at_once(in.get()));
    CHECK(kinds.closes_at_once(out.get()));
    const unique_fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    CHECK(kinds.closes_at_once(null.get()));
    const unique_fd memory(::memfd_create("cleanfork-unit", MFD_CLOEXEC));
    CHECK(kinds.closes_at_once(memory.get()));
    if (::access("/proc/self/mountinfo", R_OK) != 0) {
        MESSAGE("skipped: without /proc no file system is known to be local");
        return;
    }
    CHECK(kinds.closes_at_once(unlinked_file(4096).get()));
    const unique_fd directory(::open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC));
    CHECK(kinds.closes_at_once(directory.get()));
}

TEST_CASE("what may wait, or free very much, or is not known, is not") {
    closing_kinds kinds;
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    const unique_fd first(ends[0]), second(ends[1]);
    CHECK_FALSE(kinds.closes_at_once(first.get()));
    const unique_fd tcp(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK_FALSE(kinds.closes_at_once(tcp.get()));
    const unique_fd epoll(::epoll_create1(EPOLL_CLOEXEC));
    CHECK_FALSE(kinds.closes_at_once(epoll.get()));
    CHECK_FALSE(kinds.closes_at_once(unlinked_file(off_t{64} << 20).get()));
    const unique_fd memory(::memfd_create("cleanfork-unit", MFD_CLOEXEC));
    REQUIRE(::ftruncate(memory.get(), off_t{64} << 20) == 0);
    CHECK_FALSE(kinds.closes_at_once(memory.get()));
    const unique_fd proc(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
    CHECK_FALSE(kinds.closes_at_once(proc.get()));
    CHECK_FALSE(kinds.closes_at_once(-1));
}
