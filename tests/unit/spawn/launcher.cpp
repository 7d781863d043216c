// Real children of this process, with descriptors at numbers of the test's choice.
#include "forkserver/spawn/launcher.hpp"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <numeric>
#include <random>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "tests/unit/spawn/spawn_request.hpp"

using namespace cleanfork;
using namespace cleanfork::spawn;

namespace {

constexpr int k_base = 300;  // nothing of this program is so high

ipc::feature_set features(bool unshare) {
    ipc::feature_set set;
    set.set(ipc::feature::close_range_unshare, unshare);
    set.set(ipc::feature::clone_into_cgroup);
    return set;
}

// The forkserver has no descriptor without CLOEXEC; who ran this program may have
// left it some.
launcher make_launcher(bool unshare) {
    constexpr unsigned k_cloexec = 1U << 2;
    REQUIRE(::syscall(SYS_close_range, 3, ~0U, k_cloexec) == 0);
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    auto l = launcher::create(features(unshare), limit.rlim_cur);
    REQUIRE(l.has_value());
    return std::move(*l);
}

int exit_code(const spawned& s) {
    int status = 0;
    const pid_t pid = s.process.pid();
    REQUIRE(ipc::retry([&] { return ::waitpid(pid, &status, 0); }) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// `sources` and `targets` are numbers; the child checks that it has just them.
int run_map(launcher& l, const std::vector<int>& sources, const std::vector<int>& targets) {
    spawn_request r{CLEANFORK_TEST_HELPER_DIR "/check_descriptors"};
    for (const int target : {0, 1, 2})
        if (std::find(targets.begin(), targets.end(), target) == targets.end())
            r.body.mutable_exec()->add_argv(std::to_string(target) + "=null");
    for (std::size_t i = 0; i < sources.size(); ++i) {
        const unique_fd file(::memfd_create("cleanfork-unit", MFD_CLOEXEC));
        unique_fd at(::fcntl(file.get(), F_DUPFD_CLOEXEC, sources[i]));
        REQUIRE(at.get() == sources[i]);
        struct stat st {};
        REQUIRE(::fstat(at.get(), &st) == 0);
        r.body.mutable_exec()->add_argv(std::to_string(targets[i]) + "=" +
                                        std::to_string(st.st_ino));
        r.map(r.add(std::move(at), v1::DESCRIPTOR_PURPOSE_CHILD), targets[i]);
    }
    const auto p = planned(std::move(r), make_base(), l.self());
    auto s = l.launch(*p);
    if (!s) FAIL(s.error().message());
    return exit_code(*s);
}

std::vector<int> numbers(int from, int count) {
    std::vector<int> all(static_cast<std::size_t>(count));
    std::iota(all.begin(), all.end(), from);
    return all;
}

}  // namespace

TEST_CASE("every permutation of four descriptors among their own numbers is exact") {
    for (const bool unshare : {true, false}) {
        launcher l = make_launcher(unshare);
        const std::vector<int> sources = numbers(k_base, 4);
        std::vector<int> targets = sources;
        do CHECK(run_map(l, sources, targets) == 0);
        while (std::next_permutation(targets.begin(), targets.end()));
    }
}

TEST_CASE("swaps, long cycles, chains and overlaps of sixty-four descriptors are exact") {
    for (const bool unshare : {true, false}) {
        launcher l = make_launcher(unshare);
        const std::vector<int> sources = numbers(k_base, 64);
        CHECK(run_map(l, sources, sources) == 0);
        std::vector<int> reversed(sources.rbegin(), sources.rend());
        CHECK(run_map(l, sources, reversed) == 0);
        std::vector<int> cycle = sources;
        std::rotate(cycle.begin(), cycle.begin() + 1, cycle.end());
        CHECK(run_map(l, sources, cycle) == 0);
        for (const int shift : {-k_base, -1, 1, 63, 64})  // chains up and down, and to 0, 1, 2
            CHECK(run_map(l, sources, numbers(k_base + shift, 64)) == 0);
    }
}

TEST_CASE("random permutations of the numbers themselves are exact") {
    std::mt19937 random(std::random_device{}());
    launcher l = make_launcher(true);
    for (int i = 0; i < 50; ++i) {
        const std::vector<int> sources = numbers(k_base, 64);
        std::vector<int> targets = sources;
        std::shuffle(targets.begin(), targets.end(), random);
        CHECK(run_map(l, sources, targets) == 0);
    }
}

TEST_CASE("a child whose parent is another already is not begun") {
    launcher l = make_launcher(true);
    parent_facts self = l.self();
    self.pid = ::getppid();  // as if the forkserver had died and been replaced
    spawn_request r;
    r.body.set_parent_death_signal(SIGTERM);
    const auto p = planned(std::move(r), make_base(), self);
    const auto s = l.launch(*p);
    REQUIRE_FALSE(s.has_value());
    CHECK(s.error().step == step::parent_death_signal);
    CHECK(s.error().error_number == ESRCH);
}

TEST_CASE("the index of a failure tells which descriptor and which limit it was") {
    launcher l = make_launcher(true);
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_cur > 60'000) return;  // no target lies above the limit
    spawn_request r;
    r.map(r.add_null(), 5);
    r.map(r.add_null(), 65'000);
    r.map(r.add_null(), 6);
    const auto p = planned(std::move(r), make_base(), l.self());
    const auto s = l.launch(*p);
    REQUIRE_FALSE(s.has_value());
    CHECK(s.error().step == step::descriptors);
    CHECK(s.error().object == "descriptor 65000");
}

TEST_CASE("launching leaves this process as it was, whether it works or fails") {
    for (const bool unshare : {true, false}) {
        launcher l = make_launcher(unshare);
        const std::size_t before = ipc::open_descriptor_count();
        const mode_t mask = ::umask(022);
        const int nice = ::getpriority(PRIO_PROCESS, 0);
        for (int i = 0; i < 20; ++i) {
            spawn_request good, bad{"/no/such/program"};
            for (spawn_request* r : {&good, &bad}) {
                r->map(r->add_null(), 9);
                r->body.set_umask(0);
                r->body.set_nice(19);
                r->body.set_cwd_path("/usr");
                r->body.set_process_group(v1::PROCESS_GROUP_SESSION);
            }
            const auto p = planned(std::move(good), make_base(), l.self());
            auto s = l.launch(*p);
            REQUIRE(s.has_value());
            CHECK(exit_code(*s) == 0);
            const auto q = planned(std::move(bad), make_base(), l.self());
            CHECK_FALSE(l.launch(*q).has_value());
        }
        CHECK(ipc::open_descriptor_count() == before);
        CHECK(::umask(mask) == 022);
        CHECK(::getpriority(PRIO_PROCESS, 0) == nice);
        CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);  // no child, no zombie
        CHECK(errno == ECHILD);
    }
}
