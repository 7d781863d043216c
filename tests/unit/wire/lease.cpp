// What goes to a leased child: what went in comes out, and nothing points out of it.
#include "ipc/wire/lease.hpp"

#include <doctest/doctest.h>

#include <cstring>

#include "ipc/wire/limits.hpp"

using namespace cleanfork::ipc;

namespace {

lease_content a_call() {
    lease_content c;
    c.entry = "entry";
    c.payload = std::string_view("pay\0load", 8);
    c.arguments = {"first", "", "third"};
    c.moves = {{"log", 0, 3}, {{}, 1, 1}};
    c.payload_descriptor = 2;
    c.result_descriptor = 3;
    c.tells_answer = true;
    return c;
}

template <class Change>
bool opens(Change change, std::size_t descriptors = 4) {
    std::string p = pack_lease(a_call());
    change(p, *reinterpret_cast<lease_call*>(p.data()));
    return open_lease(p, descriptors) != nullptr;
}

}  // namespace

TEST_CASE("a leased call comes out of its packet as it went in") {
    const std::string p = pack_lease(a_call());
    const lease_call* const c = open_lease(p, 4);
    REQUIRE(c != nullptr);
    CHECK(c->text(c->entry) == "entry");
    CHECK(c->text(c->payload_bytes) == std::string_view("pay\0load", 8));
    const auto arguments = c->items<lease_part>(c->arguments);
    REQUIRE(arguments.size() == 3);
    CHECK(c->text(arguments[2]) == "third");
    const auto moves = c->items<lease_move>(c->moves);
    REQUIRE(moves.size() == 2);
    CHECK(c->text(moves[0].name) == "log");
    CHECK(moves[1].target == 1);
    CHECK(c->payload == 2);
    CHECK(c->result == 3);
    CHECK(c->tells_answer == 1);
}

TEST_CASE("a packet that is not whole, of another version, or points out of itself is none") {
    CHECK(opens([](std::string&, lease_call&) {}));
    CHECK_FALSE(opens([](std::string&, lease_call&) {}, 3));
    CHECK_FALSE(opens([](std::string& p, lease_call&) { p.pop_back(); }));
    CHECK_FALSE(opens([](std::string& p, lease_call&) { p.resize(sizeof(lease_call) - 1); }));
    CHECK_FALSE(opens([](std::string&, lease_call& c) { ++c.protocol; }));
    CHECK_FALSE(opens([](std::string&, lease_call& c) { c.entry.at = c.size + 1; }));
    CHECK_FALSE(opens([](std::string&, lease_call& c) { c.payload_bytes.count = c.size; }));
    CHECK_FALSE(opens([](std::string&, lease_call& c) { c.arguments.at += 1; }));
    CHECK_FALSE(opens([](std::string&, lease_call& c) { c.arguments.count = ~std::uint64_t{0}; }));
    CHECK_FALSE(opens([](std::string&, lease_call& c) { c.payload = -2; }));
    CHECK_FALSE(opens([](std::string& p, lease_call& c) {
        auto* const m = reinterpret_cast<lease_move*>(p.data() + c.moves.at);
        m->target = k_max_target + 1;
    }));
    CHECK_FALSE(opens([](std::string& p, lease_call& c) {
        reinterpret_cast<lease_move*>(p.data() + c.moves.at)->source = -1;
    }));
}

TEST_CASE("names and moves have their limits") {
    lease_content c;
    const std::string name(k_max_name + 1, 'n');
    c.entry = std::string_view(name).substr(1);
    CHECK(open_lease(pack_lease(c), 1) != nullptr);
    c.entry = name;
    CHECK(open_lease(pack_lease(c), 1) == nullptr);
    c.entry = {};
    c.moves.assign(k_max_descriptors, {{}, 0, 5});
    CHECK(open_lease(pack_lease(c), 1) != nullptr);
    c.moves.push_back({{}, 0, 5});
    CHECK(open_lease(pack_lease(c), 1) == nullptr);
}

TEST_CASE("words are taken one by one, and what is none is left") {
    const auto word = [](lease_word_kind kind, std::string_view text) {
        const lease_word w{
            .kind = kind, .code = 7, .text_size = static_cast<std::uint32_t>(text.size())};
        return std::string(reinterpret_cast<const char*>(&w), sizeof w).append(text);
    };
    const std::string two =
        word(lease_word_kind::begins, {}) + word(lease_word_kind::returned, "why");
    std::string_view left = two;
    CHECK(take_lease_word(left)->word.kind == lease_word_kind::begins);
    const auto second = take_lease_word(left);
    REQUIRE(second);
    CHECK(second->word.code == 7);
    CHECK(second->text == "why");
    CHECK(left.empty());
    CHECK_FALSE(take_lease_word(left));
    left = std::string_view(two).substr(0, two.size() - 1);
    (void)take_lease_word(left);
    CHECK_FALSE(take_lease_word(left));
    CHECK(left.size() == sizeof(lease_word) + 2);
    const std::string long_one = word(lease_word_kind::returned, std::string(1001, 'x'));
    left = long_one;
    CHECK_FALSE(take_lease_word(left));
}
