// A child has exactly the descriptors of its request, whatever the numbers are.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>

#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/integration/attributes/inspection.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

// A file like no other: its inode tells which one a child has.
struct marked_file {
    unique_fd fd;
    ino_t inode = 0;
};

marked_file make_file() {
    marked_file f;
    f.fd.reset(::memfd_create("cleanfork-map", MFD_CLOEXEC));
    REQUIRE(f.fd);
    struct stat st {};
    REQUIRE(::fstat(f.fd.get(), &st) == 0);
    f.inode = st.st_ino;
    return f;
}

std::vector<marked_file> make_files(std::size_t count) {
    std::vector<marked_file> all;
    for (std::size_t i = 0; i < count; ++i) all.push_back(make_file());
    return all;
}

// What check_descriptors is told for a map of targets to files.
std::vector<std::string> expectation(const std::map<int, const marked_file*>& map) {
    std::vector<std::string> words;
    for (int target = 0; target <= 2; ++target)
        if (!map.contains(target)) words.push_back(std::to_string(target) + "=null");
    for (const auto& [target, file] : map)
        words.push_back(std::to_string(target) + "=" + std::to_string(file->inode));
    return words;
}

spawn_options spawn_with(const std::map<int, const marked_file*>& map) {
    spawn_options o{.program = helper("check_descriptors"), .args = expectation(map)};
    for (const auto& [target, file] : map) o.fds.push_back({file->fd.get(), target});
    return o;
}

// Of up to 64 sources, some with several targets. Half of the maps want
// the low numbers, which are those at which the forkserver receives the sources.
std::map<int, const marked_file*> random_map(std::mt19937_64& random,
                                             const std::vector<marked_file>& files) {
    const auto pick = [&](int least, int most) {
        return std::uniform_int_distribution<int>(least, most)(random);
    };
    const int highest = pick(0, 1) == 0 ? 90 : 1000;
    const int targets = pick(0, 3) == 0 ? pick(65, 80) : pick(0, 64);
    std::map<int, const marked_file*> map;
    for (int i = 0; i < targets; ++i)
        map[pick(0, highest)] = &files[static_cast<std::size_t>(pick(0, 63))];
    return map;
}

// In packets of a few, as a busy client sends them.
void run_random_maps(const client& c, std::uint64_t seed, int count) {
    std::mt19937_64 random(seed);
    const std::vector<marked_file> files = make_files(ipc::k_max_descriptors);
    const leftovers before = leftovers_of(c);
    constexpr int k_in_flight = 8;
    std::vector<std::pair<int, process>> running;
    const auto finish = [&] {
        for (const auto& [number, child] : running) {
            INFO("map " << number << " of seed " << seed);
            REQUIRE(child.wait() == exit_status::exited(0));
        }
        running.clear();
    };
    for (int i = 0; i < count; ++i) {
        spawn_options o = spawn_with(random_map(random, files));
        std::shuffle(o.fds.begin(), o.fds.end(), random);
        running.emplace_back(i, c.spawn(o));
        if (running.size() == k_in_flight) finish();
    }
    finish();
    c.stats();  // carries the acknowledgements of the last ones
    CHECK(leftovers_of(c) == before);
}

// $CLEANFORK_TEST_SEED repeats a run.
std::uint64_t choose_seed() {
    if (const char* given = std::getenv("CLEANFORK_TEST_SEED"))
        return std::strtoull(given, nullptr, 10);
    return std::random_device()();
}

void check_random_maps(int count) {
    for (const char* off : {"", "close_range_unshare"}) {
        const std::uint64_t seed = choose_seed();
        MESSAGE("seed " << seed << ", features forced off: " << std::string(off));
        run_random_maps(launch_without(off), seed, count);
    }
}

failure why(const client& c, const spawn_options& o) {
    auto r = c.try_spawn(o);
    REQUIRE_FALSE(r.has_value());
    return r.error();
}

int code_of(const client& c, const spawn_options& o) { return c.run(o).status.code(); }

}  // namespace

TEST_CASE("the checking helper knows an extra, a missing and another file") {
    const auto files = make_files(3);
    const client c = launch_without("");
    spawn_options o = spawn_with({{5, &files[0]}, {6, &files[1]}});
    CHECK(code_of(c, o) == 0);
    spawn_options extra = o;
    extra.fds.push_back({files[2].fd.get(), 7});
    CHECK(code_of(c, extra) == 1);
    spawn_options missing = o;
    missing.fds.pop_back();
    CHECK(code_of(c, missing) == 2);
    spawn_options swapped = o;
    std::swap(swapped.fds[0].target, swapped.fds[1].target);
    CHECK(code_of(c, swapped) == 3);
}

TEST_CASE("a thousand random descriptor maps with and without close_range_unshare are exact") {
    check_random_maps(1000);
}

TEST_CASE("sixty-four sources in every rotation of the numbers they arrive at") {
    const auto files = make_files(ipc::k_max_descriptors);
    with_each_variant([&](const client& c) {
        // Wherever the forkserver received them, some of these are swaps and
        // cycles, and some leave each where it is.
        for (int shift = 0; shift < 40; ++shift) {
            INFO("shift " << shift);
            std::map<int, const marked_file*> map;
            for (std::size_t i = 0; i < files.size(); ++i)
                map[static_cast<int>(i) + shift] = &files[i];
            CHECK(code_of(c, spawn_with(map)) == 0);
            std::map<int, const marked_file*> reversed;
            for (std::size_t i = 0; i < files.size(); ++i)
                reversed[static_cast<int>(files.size() - 1 - i) + shift] = &files[i];
            CHECK(code_of(c, spawn_with(reversed)) == 0);
        }
    });
}

TEST_CASE("one source has as many targets as are asked for") {
    const auto files = make_files(1);
    std::map<int, const marked_file*> map;
    for (int target = 0; target < 200; ++target) map[target] = &files[0];
    with_each_variant([&](const client& c) { CHECK(code_of(c, spawn_with(map)) == 0); });
}

TEST_CASE("maps hold beside a cwd, a program by descriptor and activation") {
    const auto files = make_files(40);
    const unique_fd program = open_program(helper("check_descriptors"));
    const unique_fd cwd(::open("/usr", O_PATH | O_DIRECTORY | O_CLOEXEC));
    with_each_variant([&](const client& c) {
        for (int shift = 0; shift < 30; ++shift) {
            std::map<int, const marked_file*> map;
            for (std::size_t i = 0; i < files.size(); ++i)
                map[static_cast<int>(i) + 4 + shift] = &files[i];
            spawn_options o = spawn_with(map);
            o.program = program.get();
            o.cwd = cwd.get();
            o.args.push_back("3=" + std::to_string(files[7].inode));
            o.listen_fds.push_back({files[7].fd.get(), "seven"});
            CHECK(code_of(c, o) == 0);
        }
    });
}

TEST_CASE("the sources may be low, high and standard numbers of the caller") {
    const auto files = make_files(3);
    const unique_fd high(::fcntl(files[0].fd.get(), F_DUPFD_CLOEXEC, 900));
    REQUIRE(high);
    with_each_variant([&](const client& c) {
        spawn_options o = spawn_with({{3, &files[0]}, {4, &files[1]}});
        o.fds[0].source = high.get();
        CHECK(code_of(c, o) == 0);
        // The caller's own 1, whatever it is.
        struct stat st {};
        REQUIRE(::fstat(1, &st) == 0);
        const bool null = S_ISCHR(st.st_mode);
        if (null) return;  // its number is shared with /dev/null's kind of file
        o.out = stdio::inherit{};
        std::erase(o.args, "1=null");
        o.args.push_back("1=" + std::to_string(st.st_ino));
        CHECK(code_of(c, o) == 0);
    });
}

TEST_CASE("a map over its limits or without sense is refused, and leaves nothing") {
    const auto files = make_files(ipc::k_max_descriptors + 1);
    const int fd = files[0].fd.get();
    with_each_variant([&](const client& c) {
        const leftovers before = leftovers_of(c);
        const auto mapped = [](std::vector<fd_mapping> fds) {
            return spawn_options{.program = "/bin/true", .fds = std::move(fds)};
        };
        CHECK(why(c, mapped({{fd, 5}, {fd, 5}})).object == "descriptor 5");
        CHECK(why(c, mapped({{fd, -1}})).step == step::request);
        CHECK(why(c, mapped({{fd, ipc::k_max_target + 1}})).step == step::request);
        CHECK(why(c, mapped({{-1, 5}})).error_number == EBADF);
        spawn_options twice = mapped({{fd, 1}});
        twice.out = stdio::descriptor{fd};
        CHECK(why(c, twice).object == "descriptor 1");

        spawn_options many = mapped({});
        for (const marked_file& f : files) many.fds.push_back({f.fd.get(), 100 + f.fd.get()});
        const failure f = why(c, many);
        CHECK(f.step == step::request);
        CHECK(f.error_number == E2BIG);
        many.fds.pop_back();
        CHECK(code_of(c, many) == 0);
        c.stats();
        CHECK(leftovers_of(c) == before);
    });
}

TEST_CASE("the highest target works as far as the forkserver's limit reaches") {
    const auto files = make_files(1);
    rlimit own{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &own) == 0);
    const int last = static_cast<int>(
        std::min<rlim_t>(own.rlim_max, static_cast<rlim_t>(ipc::k_max_target) + 1) - 1);
    with_each_variant([&](const client& c) {
        CHECK(code_of(c, spawn_with({{last, &files[0]}})) == 0);
        if (last == ipc::k_max_target) return;
        const failure f = why(c, spawn_with({{last + 1, &files[0]}}));
        CHECK(f.step == step::descriptors);
        CHECK(f.error_number == EBADF);
        CHECK(f.object == "descriptor " + std::to_string(last + 1));
    });
}

TEST_SUITE("soak" * doctest::skip()) {
    TEST_CASE("ten thousand random descriptor maps are exact") { check_random_maps(10'000); }
}
