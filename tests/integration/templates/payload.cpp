// Payloads of any size: at most one copy beyond the caller's, and none in the forkserver.
#include <doctest/doctest.h>
#include <sys/mman.h>

#include <cstring>
#include <fstream>
#include <sstream>

#include "ipc/wire/limits.hpp"
#include "tests/integration/client/client_support.hpp"
#include "tests/integration/templates/template_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

constexpr std::size_t k_gib = std::size_t{1} << 30;
// What else happens on the machine meanwhile.
constexpr std::uint64_t k_slack_kib = 100 * 1024;

std::uint64_t kib_of(const std::string& path, const std::string& key) {
    std::ifstream file(path);
    for (std::string word; file >> word;)
        if (word == key + ":") {
            std::uint64_t kib = 0;
            file >> kib;
            return kib;
        }
    FAIL(path, " has no ", key);
    return 0;
}

struct seen {
    unsigned long sum = 0;
    std::uint64_t anonymous_kib = 0, shmem_kib = 0;  // of the child; of the machine
};

seen sum_of(const client& c, const payload& p) {
    const call_result r = c.run_call("t", "sum", p, {.result = true});
    REQUIRE(r.status.success());
    seen s;
    std::istringstream(r.result()) >> s.sum >> s.anonymous_kib >> s.shmem_kib;
    return s;
}

client with_template() {
    client c = launch();
    c.add_template("t", {.process = {.program = helper_path("template_program")}});
    return c;
}

}  // namespace

TEST_CASE("a payload of 1 GiB is copied once, and never by the forkserver") {
    const client c = with_template();
    const std::string memory(k_gib, '\1');
    const std::uint64_t before = kib_of("/proc/meminfo", "Shmem");
    const seen s = sum_of(c, memory);
    CHECK(s.sum == k_gib);
    CHECK(s.anonymous_kib < k_slack_kib);
    CHECK(s.shmem_kib < before + k_gib / 1024 + k_slack_kib);
    CHECK(kib_of("/proc/" + std::to_string(c.server().pid) + "/status", "VmHWM") < k_slack_kib);
}

TEST_CASE("a payload by descriptor is not copied at all") {
    const client c = with_template();
    const unique_fd fd(::memfd_create("cleanfork-test", MFD_CLOEXEC));
    REQUIRE(::ftruncate(fd.get(), k_gib) == 0);
    void* at = ::mmap(nullptr, k_gib, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    REQUIRE(at != MAP_FAILED);
    std::memset(at, 2, k_gib);
    const std::uint64_t before = kib_of("/proc/meminfo", "Shmem");
    const seen s = sum_of(c, stdio::descriptor{fd.get()});
    CHECK(s.sum == 2 * k_gib);
    CHECK(s.anonymous_kib < k_slack_kib);
    CHECK(s.shmem_kib < before + k_slack_kib);
    ::munmap(at, k_gib);
}

TEST_CASE("payloads of every size around the limits arrive as they are") {
    const client c = with_template();
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{1}, ipc::k_max_inline_payload, ipc::k_max_inline_payload + 1,
          ipc::k_max_inline_body, ipc::k_max_inline_body + 1, std::size_t{20} << 20}) {
        CAPTURE(size);
        std::string bytes(size, 'x');
        for (std::size_t i = 0; i < size; i += 97) bytes[i] = static_cast<char>(i);
        const call_result r = c.run_call("t", "echo", bytes, {.result = true});
        REQUIRE(r.status.success());
        CHECK((r.result() == bytes));
    }
}
