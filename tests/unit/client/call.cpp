// Calls as they go onto the wire.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <cleanfork/error.hpp>
#include <cleanfork/templates.hpp>

#include "client/src/requests/entry_call.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

using namespace cleanfork;
using namespace cleanfork::detail;

namespace {

struct translated {
    v1::SpawnRequest request;
    descriptor_list descriptors;
    parent_ends ends;
    result<void> outcome;
    explicit translated(const payload& p, const call_options& o = {})
        : outcome(translate_call({"thumbnails", "scale", p, o}, request, descriptors, ends)) {}

    const v1::CallTarget& call() const { return request.call(); }
    int number(std::uint32_t place) const { return descriptors.numbers()[place - 1]; }
    const v1::DescriptorMapping* named(const std::string& name) const {
        for (const auto& m : request.descriptors())
            if (m.name() == name) return &m;
        return nullptr;
    }
    v1::DescriptorPurpose purpose(std::uint32_t place) const {
        v1::ClientMessage m;
        descriptors.state_in(m);
        return m.descriptors(static_cast<int>(place) - 1);
    }
};

std::string pattern(std::size_t size) {
    std::string s(size, '\0');
    for (std::size_t i = 0; i < size; ++i) s[i] = static_cast<char>(i * 7 + i / 251);
    return s;
}

void check_refused(const translated& t, int error_number, const std::string& object) {
    REQUIRE(t.outcome.has_error());
    CHECK(t.outcome.error().step == step::request);
    CHECK(t.outcome.error().error_number == error_number);
    CHECK(t.outcome.error().object == object);
}

}  // namespace

TEST_CASE("a plain call is a template, an entry and arguments, without a program") {
    const translated t("", {.args = {"200", ""}});
    REQUIRE(t.outcome.has_value());
    CHECK_FALSE(t.request.has_exec());
    CHECK(t.call().template_name() == "thumbnails");
    CHECK(t.call().entry() == "scale");
    REQUIRE(t.call().arguments_size() == 2);
    CHECK(t.call().arguments(0) == "200");
    CHECK(t.call().arguments(1).empty());
    CHECK(t.call().payload_in_case() == v1::CallTarget::PAYLOAD_IN_NOT_SET);
    CHECK(t.call().result_descriptor() == 0);
    CHECK_FALSE(t.ends.result);
    CHECK(t.descriptors.numbers().empty());
}

TEST_CASE("a payload is any string, any range of bytes, or a file") {
    const std::string text("a\0b", 3);
    CHECK(translated(text).call().payload() == text);
    CHECK(translated(std::string_view(text)).call().payload() == text);
    CHECK(translated("literal").call().payload() == "literal");
    const std::vector<std::byte> bytes{std::byte{1}, std::byte{0xff}};
    CHECK(translated(bytes).call().payload() == "\x01\xff");
    const std::vector<unsigned char> chars{'x', 'y'};
    CHECK(translated(chars).call().payload() == "xy");
    CHECK(translated(std::span(chars)).call().payload() == "xy");
    static_assert(!std::is_convertible_v<int, payload>);
    static_assert(!std::is_convertible_v<std::vector<int>, payload>);
    static_assert(!std::is_constructible_v<payload, std::nullptr_t>);
}

TEST_CASE("a payload is inline up to the limit, and in a sealed memfd one byte above it") {
    const std::string large = pattern(ipc::k_max_inline_payload + 1);
    const translated at_limit(std::string_view(large).substr(1));
    REQUIRE(at_limit.outcome.has_value());
    CHECK(at_limit.call().payload().size() == ipc::k_max_inline_payload);
    CHECK(at_limit.descriptors.numbers().empty());

    const translated above(large);
    REQUIRE(above.outcome.has_value());
    CHECK_FALSE(above.call().has_payload());
    const std::uint32_t place = above.call().payload_descriptor();
    REQUIRE(place == 1);
    CHECK(above.purpose(place) == v1::DESCRIPTOR_PURPOSE_PAYLOAD);
    constexpr int k_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    CHECK((::fcntl(above.number(place), F_GET_SEALS) & k_seals) == k_seals);
    CHECK(read_result(above.number(place)) == large);
}

TEST_CASE("a large payload arrives whole") {
    const std::string large = pattern(std::size_t{24} << 20);
    const translated t(large);
    REQUIRE(t.outcome.has_value());
    CHECK(read_result(t.number(t.call().payload_descriptor())) == large);
}

TEST_CASE("a payload by descriptor is borrowed: the very same travels") {
    const unique_fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    const translated t(stdio::descriptor{file.get()});
    REQUIRE(t.outcome.has_value());
    CHECK(t.number(t.call().payload_descriptor()) == file.get());
    CHECK(t.purpose(1) == v1::DESCRIPTOR_PURPOSE_PAYLOAD);
}

TEST_CASE("a payload's descriptor that is closed, or no file, is refused by its number") {
    check_refused(translated(stdio::descriptor{987}), EBADF, "987");
    check_refused(translated(stdio::descriptor{-1}), EBADF, "-1");
    int fds[2];
    REQUIRE(::pipe2(fds, O_CLOEXEC) == 0);
    const unique_fd read_end(fds[0]), write_end(fds[1]);
    check_refused(translated(stdio::descriptor{read_end.get()}), EINVAL,
                  std::to_string(read_end.get()));
}

TEST_CASE("named descriptors get the lowest numbers that nothing else uses") {
    const translated t("", {.fds = {{"a", 0}, {"b", 1}, {"c", 0}, {"d", 2}},
                            .attributes = {.program = "", .fds = {{0, 4}, {1, 6}}}});
    REQUIRE(t.outcome.has_value());
    REQUIRE(t.named("a") != nullptr);
    CHECK(t.named("a")->target() == 3);
    CHECK(t.named("b")->target() == 5);
    CHECK(t.named("c")->target() == 7);
    CHECK(t.named("d")->target() == 8);
    CHECK(t.number(t.named("b")->source_descriptor()) == 1);
    // One descriptor travels once, whatever it is called.
    CHECK(t.named("a")->source_descriptor() == t.named("c")->source_descriptor());
    CHECK(t.descriptors.numbers().size() == 3);
}

TEST_CASE("named descriptors come after those of socket activation") {
    const translated t(
        "", {.fds = {{"a", 0}}, .attributes = {.program = "", .listen_fds = {{1, "x"}, {2, "y"}}}});
    REQUIRE(t.outcome.has_value());
    CHECK(t.named("a")->target() == 5);
}

TEST_CASE("an answer goes to a memfd of the caller, which is no descriptor of the map") {
    const translated t("", {.result = true});
    REQUIRE(t.outcome.has_value());
    REQUIRE(t.ends.result);
    CHECK((::fcntl(t.ends.result.get(), F_GETFD) & FD_CLOEXEC) != 0);
    const std::uint32_t place = t.call().result_descriptor();
    REQUIRE(place == 1);
    CHECK(t.number(place) == t.ends.result.get());
    CHECK(t.purpose(place) == v1::DESCRIPTOR_PURPOSE_CHILD);
    CHECK(t.request.descriptors_size() == 0);
}

TEST_CASE("an answer is read from its beginning, and sealed once it is final") {
    translated t("", {.result = true});
    const int fd = t.ends.result.get();
    REQUIRE(::write(fd, "an answer", 9) == 9);
    CHECK(read_result(fd) == "an answer");
    seal_result(t.ends.result);
    CHECK(::write(fd, "x", 1) == -1);
    CHECK(errno == EPERM);
    CHECK(read_result(fd) == "an answer");
    // It can be the next call's payload as it is.
    const translated next(stdio::descriptor{fd});
    CHECK(next.outcome.has_value());
    seal_result(unique_fd());
    CHECK_THROWS_AS(read_result(-1), spawn_error);
}

TEST_CASE("a call has no program, arguments of a program, or name of a program") {
    const unique_fd file(::open("/proc/self/exe", O_PATH | O_CLOEXEC));
    check_refused(translated("", {.attributes = {.program = "/bin/true"}}), EINVAL, "program");
    check_refused(translated("", {.attributes = {.program = file.get()}}), EINVAL, "program");
    check_refused(translated("", {.attributes = {.program = "", .args = {"x"}}}), EINVAL, "args");
    check_refused(translated("", {.attributes = {.program = "", .argv0 = "x"}}), EINVAL, "argv0");
}

TEST_CASE("a call has the attributes of a spawn") {
    const translated t("", {.attributes = {.program = "",
                                           .out = stdio::pipe{},
                                           .env = {.set = {{"A", "1"}}},
                                           .cwd = "/tmp",
                                           .nice = 5,
                                           .lifetime = {.keep = true}}});
    REQUIRE(t.outcome.has_value());
    CHECK(t.ends.out);
    CHECK(t.request.environment().set(0) == "A=1");
    CHECK(t.request.cwd_path() == "/tmp");
    CHECK(t.request.nice() == 5);
    CHECK(t.request.lifetime().keep());
}

TEST_CASE("a call that is refused leaves no descriptor behind") {
    const std::size_t before = ipc::open_descriptor_count();
    {
        const translated t(
            pattern(ipc::k_max_inline_payload + 1),
            {.result = true,
             .attributes = {
                 .program = "", .in = stdio::pipe{}, .out = stdio::file{"/nowhere/at/all"}}});
        CHECK(t.outcome.has_error());
    }
    CHECK(ipc::open_descriptor_count() == before);
}
