#include "ipc/base/proc.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "ipc/base/fd.hpp"

using namespace cleanfork;
using namespace cleanfork::ipc;

TEST_CASE("a file of /proc is read whole, and one that is not there tells why") {
    const auto status = read_file(AT_FDCWD, "/proc/self/status");
    REQUIRE(status.has_value());
    CHECK(to_number(field(*status, "Pid:")) == ::getpid());
    CHECK(field(*status, "NoSuchField:").empty());
    CHECK_FALSE(read_file(AT_FDCWD, "/proc/self/no_such_file").has_value());
    CHECK(errno == ENOENT);
}

TEST_CASE("a line has no newline, and a link that cannot be read is empty") {
    CHECK(read_line(AT_FDCWD, "/proc/self/comm") + "\n" ==
          read_file(AT_FDCWD, "/proc/self/comm").value());
    CHECK(read_line(AT_FDCWD, "/proc/self/no_such_file").empty());
    CHECK(read_link(AT_FDCWD, "/proc/self") == std::to_string(::getpid()));
    CHECK(read_link(AT_FDCWD, "/proc/self/status").empty());
}

TEST_CASE("each_number lists the descriptors, and again from the beginning") {
    const unique_fd dir(::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(dir);
    for (int round = 0; round < 2; ++round) {
        std::size_t count = 0;
        bool has_itself = false;
        CHECK(each_number(dir.get(), [&](const char* name, int number) {
                  CHECK(std::to_string(number) == name);
                  has_itself = has_itself || number == dir.get();
                  ++count;
              }) == 0);
        CHECK(has_itself);
        CHECK(count == open_descriptor_count());
    }
    CHECK(each_number(-1, [](const char*, int) {}) == EBADF);
}

TEST_CASE("what is resident of this process is more than nothing") { CHECK(resident_kib() > 0); }

TEST_CASE("each mount of cgroup v2 is a directory with processes in it") {
    for (const std::string& point : cgroup_mounts())
        CHECK(::access((point + "/cgroup.procs").c_str(), F_OK) == 0);
}
