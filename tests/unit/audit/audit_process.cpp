// What the audit and the proof say of processes that change, end, or must not be
// looked at.
#include <doctest/doctest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>

#include "ipc/audit/clean_proof.hpp"
#include "tests/unit/audit/audit_victim.hpp"

using namespace cleanfork;
using namespace cleanfork::ipc;
using namespace cleanfork::test;

namespace {

clean_proof proof_of(pid_t pid) {
    auto proof = clean_proof::open(pid);
    REQUIRE_MESSAGE(proof.has_value(), proof.error().message());
    return std::move(*proof);
}

audit_report checked(const clean_proof& proof, std::span<const int> allowed = {}) {
    auto report = proof.check(allowed);
    REQUIRE_MESSAGE(report.has_value(), report.error().message());
    return std::move(*report);
}

// True when it failed since there is no such process, and says which.
template <class T>
bool is_gone(const result<T>& r, pid_t pid) {
    return r.has_error() && r.error().error_number == ESRCH && r.error().step == k_audit_step &&
           r.error().object.starts_with("/proc/" + std::to_string(pid));
}

bool is_zombie(pid_t pid) {
    const unique_fd file(::open(("/proc/" + std::to_string(pid) + "/status").c_str(), O_RDONLY));
    std::array<char, 1024> text{};
    REQUIRE(::read(file.get(), text.data(), text.size()) > 0);
    return std::string_view(text.data(), text.size()).find("State:\tZ") != std::string_view::npos;
}

}  // namespace

TEST_CASE("a proof holds for a process that has only what is harmless or allowed") {
    const victim v([] { keep(::socket(AF_UNIX, SOCK_STREAM, 0)); });
    const clean_proof proof = proof_of(v.pid());
    CHECK(checked(proof).safe());
    v.change();
    CHECK(summary(checked(proof)) == "1 socket (40)");
    CHECK(checked(proof).findings.front().what == "40 unix stream");
    CHECK(checked(proof, std::array{3, k_number}).safe());
}

TEST_CASE("a proof fails by the name of a thread, and by an epoll, again and again") {
    const victim v([] {
        start_thread();
        keep(::epoll_create1(0));
    });
    const clean_proof proof = proof_of(v.pid());
    CHECK(checked(proof).threads == 1);
    v.change();
    for (int i = 0; i < 3; ++i) {
        const audit_report report = checked(proof);
        CHECK(report.threads == 2);
        CHECK(summary(report) ==
              "1 extra thread: audited_thread of unit_tests; 1 epoll descriptor (40)");
        CHECK(report.name == report_of(::getpid()).name);
    }
}

TEST_CASE("a proof fails by a pending signal") {
    const victim v([] {
        sigset_t set;
        ::sigemptyset(&set);
        ::sigaddset(&set, SIGTERM);
        ::sigprocmask(SIG_BLOCK, &set, nullptr);
        ::raise(SIGTERM);
    });
    const clean_proof proof = proof_of(v.pid());
    CHECK(checked(proof).safe());
    v.change();
    CHECK(summary(checked(proof)) == "1 pending signal: SIGTERM");
}

TEST_CASE("the counts of a proof follow threads and descriptors") {
    const victim v([] {
        start_thread();
        keep(::open("/dev/null", O_RDONLY));
    });
    const clean_proof proof = proof_of(v.pid());
    const auto before = proof.counts();
    REQUIRE(before.has_value());
    CHECK(before->threads == 1);
    v.change();
    const auto after = proof.counts();
    REQUIRE(after.has_value());
    CHECK(after->threads == 2);
    if (before->descriptors) {
        CHECK(*before->descriptors == report_of(v.pid()).descriptors - 1);
        CHECK(*after->descriptors == *before->descriptors + 1);
    } else {
        MESSAGE("skipped: this kernel does not count descriptors");
    }
}

TEST_CASE("hundreds of descriptors are all found") {
    constexpr std::size_t k_many = 400;
    const victim v([] {
        for (std::size_t i = 0; i < k_many; ++i)
            if (::eventfd(0, 0) < 0) ::_exit(2);
    });
    const clean_proof proof = proof_of(v.pid());
    v.change();
    CHECK(of_kind(report_of(v.pid()), hazard::eventfd).size() == k_many);
    CHECK(of_kind(checked(proof), hazard::eventfd).size() == k_many);
}

TEST_CASE("a process without any descriptor is safe, and not taken for one that has ended") {
    const victim v([] {
        ::close_range(0, ~0U, 0);
        ::raise(SIGSTOP);
    });
    const clean_proof proof = proof_of(v.pid());
    v.tell();
    REQUIRE(::waitpid(v.pid(), nullptr, WUNTRACED) == v.pid());
    CHECK(checked(proof).descriptors == 0);
    CHECK(checked(proof).safe());
    CHECK(report_of(v.pid()).safe());
}

TEST_CASE("a process that has ended is no safe process, reaped or not") {
    victim v([] {});
    const clean_proof proof = proof_of(v.pid());
    v.end();
    CHECK(is_gone(proof.check(), v.pid()));
    CHECK(is_gone(audit(v.pid()), v.pid()));
    CHECK(is_gone(clean_proof::open(v.pid()), v.pid()));
    v.reap();
    CHECK(is_gone(proof.check(), v.pid()));
    CHECK(is_gone(proof.counts(), v.pid()));
    CHECK(is_gone(audit(v.pid()), v.pid()));
    CHECK(is_gone(clean_proof::open(v.pid()), v.pid()));
    CHECK(is_gone(audit(-1), -1));
}

TEST_CASE("a process whose main thread has ended still shows its threads and descriptors") {
    const victim v([] {
        start_thread();
        keep(::epoll_create1(0));
        ::syscall(SYS_exit, 0);
    });
    const clean_proof proof = proof_of(v.pid());
    v.tell();
    while (!is_zombie(v.pid())) ::sched_yield();
    const audit_report report = report_of(v.pid());
    CHECK(summary(report) ==
          "1 extra thread: audited_thread of unit_tests; 1 epoll descriptor (40)");
    CHECK(summary(checked(proof)).starts_with("1 extra thread: audited_thread"));
}

TEST_CASE("the audit of a thread is that of its process") {
    const victim v(&start_thread);
    v.change();
    const int thread = report_of(v.pid()).findings.front().number;
    CHECK(report_of(thread).pid == v.pid());
    CHECK(summary(report_of(thread)) == "1 extra thread: audited_thread of unit_tests");
    CHECK(summary(checked(proof_of(thread))) == "1 extra thread: audited_thread of unit_tests");
}

TEST_CASE("another user's process is a failure that names the file, not a safe process") {
    const victim v([] {});
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        constexpr uid_t k_nobody = 65'534;
        const pid_t other = ::getuid() == 0 ? v.pid() : 1;
        if (::getuid() == 0 && ::setresuid(k_nobody, k_nobody, k_nobody) != 0) ::_exit(2);
        const auto refused = [&](const auto& r) {
            return r.has_error() && r.error().error_number == EACCES &&
                   r.error().object == "/proc/" + std::to_string(other) + "/fd";
        };
        ::_exit(refused(audit(other)) && refused(clean_proof::open(other)) ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    CHECK(status == 0);
}

TEST_CASE("an audit of this process keeps no descriptor, a proof keeps three until its end") {
    const std::size_t before = open_descriptor_count();
    CHECK(report_of(::getpid()).safe());
    {
        const clean_proof proof = proof_of(::getpid());
        CHECK(checked(proof).safe());
        CHECK(open_descriptor_count() == before + 3);
    }
    CHECK(audit(-1).has_error());
    CHECK(clean_proof::open(-1).has_error());
    CHECK(open_descriptor_count() == before);
}
