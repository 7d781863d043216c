#include "ipc/base/proc.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <csignal>
#include <thread>

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

namespace {

// own_umask() while no descriptor can be opened, and so no file of /proc.
mode_t own_umask_without_proc() {
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    rlimit none = limit;
    none.rlim_cur = 0;
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    const bool is_open = static_cast<bool>(unique_fd(::open("/proc/self/status", O_RDONLY)));
    const mode_t mask = own_umask();
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
    REQUIRE_FALSE(is_open);
    return mask;
}

}  // namespace

TEST_CASE("the umask is told exactly, with /proc and without, and stays as it is") {
    const mode_t before = ::umask(027);
    for (const mode_t mask : {0000U, 0022U, 0077U, 0137U, 0777U}) {
        ::umask(mask);
        const mode_t by_proc = own_umask();
        const mode_t without = own_umask_without_proc();
        const mode_t after = ::umask(mask);
        CHECK(by_proc == mask);
        CHECK(without == mask);
        CHECK(after == mask);
    }
    ::umask(before);
}

TEST_CASE("threads that ask for the umask at once leave it as it is") {
    const mode_t before = ::umask(022);
    std::vector<std::thread> threads;
    std::atomic<int> wrong = 0;
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    // Without descriptors only while they ask: a sanitizer that looks at how a thread begins or
    // ends wants some.
    bool asking = false;
    std::barrier together(4, [&]() noexcept {
        asking = !asking;
        const rlimit none{0, limit.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, asking ? &none : &limit);
    });
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            together.arrive_and_wait();
            for (int n = 0; n < 1000; ++n) wrong += own_umask() != 022;
            together.arrive_and_wait();
        });
    for (std::thread& t : threads) t.join();
    CHECK(wrong == 0);
    CHECK(::umask(before) == 022);
}

TEST_CASE("what is resident of this process is more than nothing") { CHECK(resident_kib() > 0); }

TEST_CASE("each mount of cgroup v2 is a directory with processes in it") {
    for (const std::string& point : cgroup_mounts())
        CHECK(::access((point + "/cgroup.procs").c_str(), F_OK) == 0);
}

TEST_CASE("the signals that this process ignores are told, with /proc and without") {
    const auto before = std::signal(SIGHUP, SIG_IGN);
    const auto usual = std::signal(SIGTERM, SIG_DFL);
    const std::vector<int> told = own_inherited_state().ignored_signals;
    CHECK(told == own_ignored_signals());
    CHECK(std::find(told.begin(), told.end(), SIGHUP) != told.end());
    CHECK(std::find(told.begin(), told.end(), SIGTERM) == told.end());
    std::signal(SIGHUP, before);
    std::signal(SIGTERM, usual);
}
