// A call as its child gets it: what went in comes out, and nothing points out of it.
#include "forkserver/spawn/call_block.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "tests/unit/spawn/spawn_request.hpp"

using namespace cleanfork;
using namespace cleanfork::spawn;

namespace {

constexpr int k_first_number = 100;  // of the descriptors in the child

std::unique_ptr<v1::SpawnRequest> a_call() {
    auto r = std::make_unique<v1::SpawnRequest>();
    r->mutable_call()->set_template_name("t");
    r->mutable_call()->set_entry("entry");
    r->mutable_call()->set_payload(std::string("pay\0load", 8));
    r->mutable_call()->add_arguments("first");
    r->mutable_call()->add_arguments("");
    return r;
}

void add_descriptor(v1::SpawnRequest& r, unsigned source, int target, const char* name) {
    auto& m = *r.add_descriptors();
    m.set_source_descriptor(source);
    m.set_target(target);
    m.set_name(name);
}

struct scene {
    std::unique_ptr<v1::SpawnRequest> request = a_call();
    std::shared_ptr<std::vector<unique_fd>> descriptors =
        std::make_shared<std::vector<unique_fd>>();
    std::vector<int> purposes;
    std::shared_ptr<const session_base> base = make_base({"A=1", "B=two"});
    std::vector<char> bytes{};
    std::vector<int> numbers{};

    void bring(int count) {
        for (int i = 0; i < count; ++i) {
            descriptors->emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
            purposes.push_back(v1::DESCRIPTOR_PURPOSE_CHILD);
        }
    }
    result<void> pack() {
        auto packed = pack_call(request, purposes, descriptors, base, {});
        if (!packed) return packed.error();
        bytes.assign(packed->bytes.begin(), packed->bytes.end());
        for (std::size_t i = 0; i < packed->descriptors.size(); ++i)
            numbers.push_back(k_first_number + static_cast<int>(i));
        return {};
    }
    call_block* open() { return open_call(bytes, numbers); }
};

std::vector<std::string> environment_of(const plan& p) {
    std::vector<std::string> all;
    for (char* const* e = p.envp; *e != nullptr; ++e) all.emplace_back(*e);
    return all;
}

}  // namespace

TEST_CASE("what a call was asked with is in its block") {
    scene s;
    s.bring(2);
    add_descriptor(*s.request, 2, 7, "");
    add_descriptor(*s.request, 1, 1, "named");
    s.request->mutable_environment()->add_set("C=3");
    s.request->mutable_environment()->add_unset("A");
    s.request->set_cwd_path("somewhere");
    s.request->mutable_groups()->add_gid(12);
    auto& l = *s.request->add_rlimits();
    l.set_resource(RLIMIT_CORE + 1);
    l.set_soft(5);
    l.set_hard(6);
    REQUIRE(s.pack().has_value());
    REQUIRE(s.request != nullptr);
    CHECK(s.request->call().entry() == "entry");
    call_block* const b = s.open();
    REQUIRE(b != nullptr);
    CHECK(b->text(b->entry) == "entry");
    CHECK(b->text(b->payload_bytes) == std::string_view("pay\0load", 8));
    const auto arguments = b->items<block_part>(b->arguments);
    REQUIRE(arguments.size() == 2);
    CHECK(b->text(arguments[0]) == "first");
    CHECK(b->text(arguments[1]).empty());
    CHECK(environment_of(b->steps) == std::vector<std::string>{"B=two", "C=3"});
    CHECK(std::string(b->steps.cwd_path) == "somewhere");
    REQUIRE(b->steps.group_count == 1);
    CHECK(b->steps.groups[0] == 12);
    REQUIRE(b->steps.limit_count == 1);
    CHECK(b->steps.limits[0].value.rlim_max == 6);
    settle_map(*b, {}, 55);
    REQUIRE(b->steps.move_count == 4);
    CHECK(b->steps.moves[0].source == k_first_number + 1);
    CHECK(b->steps.moves[0].target == 7);
    CHECK(b->steps.moves[1].source == k_first_number);
    CHECK(b->steps.moves[2].source == 55);  // standard input
    CHECK(b->steps.highest_target == 7);
    const auto names = b->items<named_move>(b->names);
    REQUIRE(names.size() == 1);
    CHECK(b->text(names[0].name) == "named");
    CHECK(names[0].move == 1);
}

TEST_CASE("named descriptors make way for the template's files, numbered ones stay") {
    scene s;
    s.bring(3);
    add_descriptor(*s.request, 1, 3, "a");
    add_descriptor(*s.request, 2, 4, "");
    add_descriptor(*s.request, 3, 5, "b");
    REQUIRE(s.pack().has_value());
    call_block* const b = s.open();
    REQUIRE(b != nullptr);
    const int held[] = {3, 4, 9};
    settle_map(*b, held, 55);
    CHECK(b->steps.moves[0].target == 10);
    CHECK(b->steps.moves[1].target == 4);
    CHECK(b->steps.moves[2].target == 5);
    CHECK(b->steps.highest_target == 10);
}

TEST_CASE("a source whose number is another's target is known, and only that") {
    scene s;
    s.bring(2);
    add_descriptor(*s.request, 1, k_first_number + 1, "");
    add_descriptor(*s.request, 2, 3, "");
    REQUIRE(s.pack().has_value());
    call_block* const b = s.open();
    REQUIRE(b != nullptr);
    settle_map(*b, {}, 55);
    CHECK_FALSE(b->steps.moves[0].collides);
    CHECK(b->steps.moves[1].collides);
}

TEST_CASE("there is room for the pid of a child that listens") {
    scene s;
    s.bring(1);
    auto& l = *s.request->add_listen_descriptors();
    l.set_source_descriptor(1);
    l.set_name("web");
    REQUIRE(s.pack().has_value());
    call_block* const b = s.open();
    REQUIRE(b != nullptr);
    REQUIRE(b->steps.listen_pid != nullptr);
    std::strcpy(b->steps.listen_pid, "-2147483648");
    const auto all = environment_of(b->steps);
    CHECK(std::find(all.begin(), all.end(), "LISTEN_PID=-2147483648") != all.end());
    CHECK(std::find(all.begin(), all.end(), "LISTEN_FDNAMES=web") != all.end());
}

TEST_CASE("a bad call is refused with the request where it was") {
    scene s;
    s.request->set_nice(99);
    const auto packed = s.pack();
    REQUIRE_FALSE(packed.has_value());
    CHECK(packed.error().step == step::request);
    CHECK(packed.error().object == "nice");
    REQUIRE(s.request != nullptr);
    CHECK(s.request->nice() == 99);
}

TEST_CASE("a block that is cut, of another version, or points out of itself is none") {
    scene good;
    good.bring(1);
    add_descriptor(*good.request, 1, 0, "in");
    REQUIRE(good.pack().has_value());
    const auto changed = [&](auto change) {
        scene s;
        s.bytes = good.bytes;
        s.numbers = good.numbers;
        change(s, *reinterpret_cast<call_block*>(s.bytes.data()));
        return s.open();
    };
    CHECK(changed([](scene&, call_block&) {}) != nullptr);
    for (std::size_t size = 0; size < good.bytes.size(); size += 7)
        CHECK(changed([&](scene& s, call_block&) { s.bytes.resize(size); }) == nullptr);
    CHECK(changed([](scene&, call_block& b) { ++b.protocol; }) == nullptr);
    CHECK(changed([](scene&, call_block& b) { ++b.plan_size; }) == nullptr);
    CHECK(changed([](scene& s, call_block&) { s.bytes.back() = 'x'; }) == nullptr);
    CHECK(changed([](scene& s, call_block&) { s.numbers.clear(); }) == nullptr);
    CHECK(changed([](scene&, call_block& b) { b.entry.count = b.size; }) == nullptr);
    CHECK(changed([](scene&, call_block& b) { b.names.at = b.size - 8; }) == nullptr);
    CHECK(changed([](scene&, call_block& b) { b.arguments.count = ~std::uint64_t{0}; }) == nullptr);
    CHECK(changed([](scene&, call_block& b) { b.steps.move_count = std::size_t{1} << 60; }) ==
          nullptr);
    CHECK(changed([](scene&, call_block& b) { b.steps.cwd_fd = 64; }) == nullptr);
    CHECK(changed([](scene&, call_block& b) { b.payload = -2; }) == nullptr);
    CHECK(changed([](scene&, call_block& b) {
              b.steps.envp = reinterpret_cast<char* const*>(b.size);
          }) == nullptr);
    CHECK(changed([](scene&, call_block& b) {
              b.steps.limits = reinterpret_cast<const resource_limit*>(b.size - 8);
          }) == nullptr);
    CHECK(changed([](scene& s, call_block& b) {
              s.bytes[b.names.at + offsetof(named_move, move) + 7] = 1;
          }) == nullptr);
}
