// Malformed packets end the session that sent them and trouble nobody else.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/integration/hostile/hostile_session.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

// A daemon, somebody who uses it as one should, and what it had before the attack.
struct victim {
    test_daemon daemon;
    raw_session neighbour{daemon};
    live_child child = neighbour.spawn(sleeper());
    baseline before = [this] {
        attack_and_leave();  // what is allocated once, at the first use, is not a leak
        return baseline(neighbour);
    }();

    void attack_and_leave() {
        raw_session first(daemon);
        first.spawn_true();
        first.close();
        neighbour.spawn_true();
    }

    // The neighbour is served as before, and nothing is left of the others.
    void expect_unharmed() {
        neighbour.spawn_true();
        before.expect_again();
    }
};

std::string packet_of(v1::ClientMessage m, std::uint64_t id = 7) {
    m.set_request_id(id);
    return m.SerializeAsString();
}

v1::ClientMessage spawn_message() {
    v1::ClientMessage m;
    *m.mutable_spawn() = program({"/bin/true"});
    return m;
}

// Sends one packet on a session of its own, after hello, and sees that it is refused by name.
void expect_refused(victim& v, std::string_view bytes, std::span<const int> fds = {},
                    int error_number = EBADMSG) {
    raw_session s(v.daemon);
    REQUIRE(s.send_bytes(bytes, fds) == 0);
    CHECK(s.ends());
    CHECK(s.last_failure.step == step::protocol);
    CHECK_MESSAGE(s.last_failure.error_number == error_number, s.last_failure.message());
}

unique_fd body_file(std::string_view contents, int seals) {
    unique_fd fd(::memfd_create("body", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(::write(fd.get(), contents.data(), contents.size()) ==
            static_cast<ssize_t>(contents.size()));
    REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, seals) == 0);
    return fd;
}

constexpr int k_all_seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

std::string large(std::uint64_t size, int more = 0) {
    v1::ClientMessage m;
    m.set_request_id(8);
    m.mutable_large()->set_size(size);
    m.add_descriptors(v1::DESCRIPTOR_PURPOSE_BODY);
    for (int i = 0; i < more; ++i) m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
    return m.SerializeAsString();
}

}  // namespace

TEST_CASE("a packet cut in the middle of a message ends its session alone") {
    victim v;
    v1::ClientMessage m = spawn_message();
    const std::string whole = packet_of(m);
    expect_refused(v, std::string_view(whole).substr(0, whole.size() / 2));
    v.expect_unharmed();
}

TEST_CASE("an empty packet is taken for the end of the session") {
    victim v;
    raw_session s(v.daemon);
    REQUIRE(s.send_bytes("") == 0);
    CHECK(s.ends());
    v.expect_unharmed();
}

TEST_CASE("a packet of more than 64 KiB is refused") {
    victim v;
    expect_refused(v, std::string(ipc::k_max_inline_body + 1, '\x20'), {}, EMSGSIZE);
    v.expect_unharmed();
}

TEST_CASE("what breaks the order of requests is refused") {
    victim v;
    SUBCASE("a request before hello") {
        raw_session s(v.daemon.connect());
        REQUIRE(s.send_bytes(packet_of(spawn_message())) == 0);
        CHECK(s.ends());
        CHECK(s.last_failure.step == step::protocol);
    }
    SUBCASE("a second hello") {
        v1::ClientMessage m;
        m.mutable_hello()->set_protocol(ipc::k_protocol_version);
        expect_refused(v, packet_of(m));
    }
    SUBCASE("a request without an id") { expect_refused(v, packet_of(spawn_message(), 0)); }
    SUBCASE("a request of no kind") { expect_refused(v, packet_of({})); }
    SUBCASE("another version of the protocol") {
        raw_session s(v.daemon.connect());
        v1::ClientMessage m;
        m.mutable_hello()->set_protocol(ipc::k_protocol_version + 1);
        REQUIRE(s.send_bytes(packet_of(m)) == 0);
        CHECK(s.ends());
        CHECK(s.last_failure.step == step::hello);
        CHECK(s.last_failure.error_number == EPROTO);
    }
    v.expect_unharmed();
}

TEST_CASE("10,000 malformed packets, random and mutated, leave the daemon as it was") {
    victim v;
    const unsigned seed = std::random_device()();
    MESSAGE("seed ", seed);
    std::mt19937 random(seed);
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    v1::ClientMessage valid = spawn_message();
    valid.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
    map_descriptor(*valid.mutable_spawn(), 1, 5);
    // No program is there, so that no mutation of it runs one.
    valid.mutable_spawn()->mutable_exec()->set_path("/nonexistent/program");
    const std::string seed_packet = packet_of(valid);
    const unique_fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const auto malformed = [&] {
        if (below(2) == 0) {
            std::string bytes(1 + below(200), '\0');
            for (char& c : bytes) c = static_cast<char>(random());
            return bytes;
        }
        std::string bytes = seed_packet;
        for (std::size_t i = 0; i <= below(4); ++i)
            bytes[below(bytes.size())] = static_cast<char>(random());
        if (below(3) == 0) bytes.resize(1 + below(bytes.size()));
        return bytes;
    };
    unsigned refused = 0;
    raw_session s(v.daemon);
    v1::ClientMessage stats;
    stats.mutable_stats();
    for (int sent = 0; sent < 10'000; ++sent) {
        const std::vector<int> fds(below(4), null.get());
        REQUIRE(s.send_bytes(malformed(), fds) == 0);
        // A mutated packet may be in order after all; then so is what follows it.
        if (s.send(stats)) {
            auto r = s.receive();
            while (r && !r->message.has_stats()) r = s.receive();
            if (r) continue;
        }
        ++refused;
        s = raw_session(v.daemon);
        if (refused % 1000 == 0) v.neighbour.spawn_true();
    }
    s.close();
    CHECK(refused > 5'000);
    CHECK(v.neighbour.stats().protocol_errors_total() == refused);
    v.expect_unharmed();
}

TEST_CASE("descriptors beyond those allowed end the session and are closed") {
    victim v;
    const unique_fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const auto fds = [&](std::size_t n) { return std::vector<int>(n, null.get()); };
    SUBCASE("300: the kernel refuses to send them") {
        raw_session s(v.daemon);
        CHECK(s.send_bytes(packet_of(spawn_message()), fds(300)) == EINVAL);
        s.spawn_true();
    }
    SUBCASE("65: one more than a packet may have") {
        expect_refused(v, packet_of(spawn_message()), fds(ipc::k_max_descriptors + 1), EMSGSIZE);
    }
    SUBCASE("253: the most the kernel sends") {
        // All of them are taken in, so that the call that receives closes none of them.
        expect_refused(v, packet_of(spawn_message()), fds(253), EMSGSIZE);
    }
    SUBCASE("64 are served") {
        raw_session s(v.daemon);
        v1::SpawnRequest r = program({"/bin/true"});
        for (int i = 0; i < 64; ++i) map_descriptor(r, static_cast<std::uint32_t>(i) + 1, 10 + i);
        CHECK(s.await_exit(s.spawn(r, fds(64)).id).code() == 0);
    }
    v.expect_unharmed();
}

TEST_CASE("descriptors of another number or purpose than stated are refused") {
    victim v;
    const unique_fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const int one[] = {null.get()};
    v1::ClientMessage m = spawn_message();
    SUBCASE("stated, and absent") {
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
        expect_refused(v, packet_of(m));
    }
    SUBCASE("sent, and not stated") { expect_refused(v, packet_of(m), one); }
    SUBCASE("without a purpose") {
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_UNSPECIFIED);
        expect_refused(v, packet_of(m), one);
    }
    SUBCASE("a body where none is") {
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_BODY);
        expect_refused(v, packet_of(m), one);
    }
    SUBCASE("with a request that takes none") {
        v1::ClientMessage stats;
        stats.mutable_stats();
        stats.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
        expect_refused(v, packet_of(stats), one);
    }
    SUBCASE("of another purpose than the request needs: that request fails, the session lives") {
        raw_session s(v.daemon);
        m.mutable_spawn()->set_cwd_descriptor(1);
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
        const failure f = failure_in(s.request(m, one));
        CHECK(f.step == step::request);
        s.spawn_true();
    }
    SUBCASE("a number beyond the descriptors of the packet: that request fails") {
        raw_session s(v.daemon);
        map_descriptor(*m.mutable_spawn(), 2, 5);
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
        CHECK(failure_in(s.request(m, one)).step == step::request);
        s.spawn_true();
    }
    v.expect_unharmed();
}

namespace {

// It is understood: no program takes so many arguments.
void expect_15_mib_are_too_many(victim& v) {
    raw_session s(v.daemon);
    v1::SpawnRequest r = program({"/bin/true"});
    for (int i = 0; i < 150; ++i) r.mutable_exec()->add_argv(std::string(100 * 1024, 'x'));
    const failure f = s.spawn_failure(r);
    CHECK(f.step == step::exec);
    CHECK(f.error_number == E2BIG);
    s.spawn_true();
}

}  // namespace

TEST_CASE("a large body must be a sealed memfd of the stated size with a message in it") {
    victim v;
    v1::ClientMessage m = spawn_message();
    for (int i = 0; i < 1000; ++i)
        m.mutable_spawn()->mutable_exec()->add_argv(std::string(100, 'x'));
    const std::string body = packet_of(m);
    const auto expect = [&](std::uint64_t stated, const unique_fd& fd, int error = EBADMSG) {
        const int fds[] = {fd.get()};
        expect_refused(v, large(stated), fds, error);
    };
    SUBCASE("sealed, it is served") {
        raw_session s(v.daemon);
        CHECK(s.await_exit(s.spawn(m.spawn()).id).code() == 0);
    }
    SUBCASE("of 15 MiB, it is understood: no program takes so many arguments") {
        expect_15_mib_are_too_many(v);
    }
    SUBCASE("not sealed") { expect(body.size(), body_file(body, F_SEAL_SEAL)); }
    SUBCASE("sealed against writing, and free to shrink") {
        expect(body.size(), body_file(body, F_SEAL_WRITE | F_SEAL_GROW));
    }
    SUBCASE("shorter than stated") { expect(body.size() + 1, body_file(body, k_all_seals)); }
    SUBCASE("longer than stated") { expect(body.size() - 1, body_file(body, k_all_seals)); }
    SUBCASE("empty") { expect(0, body_file("", k_all_seals)); }
    SUBCASE("over 16 MiB") {
        const std::string huge(ipc::k_max_body + 1, '\0');
        expect(huge.size(), body_file(huge, k_all_seals), EMSGSIZE);
    }
    SUBCASE("not a message") {
        expect(body.size(), body_file(std::string(body.size(), '\xff'), k_all_seals));
    }
    SUBCASE("with a large body inside") {
        const std::string inner = large(10);
        expect(inner.size(), body_file(inner, k_all_seals));
    }
    SUBCASE("a pipe") {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        const unique_fd out(ends[0]), in(ends[1]);
        expect(body.size(), out);
    }
    SUBCASE("a file of the disk") {
        const std::string name = v.daemon.directory() / "body";
        const unique_fd file(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        REQUIRE(::write(file.get(), body.data(), body.size()) > 0);
        expect(body.size(), file);
    }
    SUBCASE("without its memfd") { expect_refused(v, large(body.size())); }
    SUBCASE("with fewer descriptors than it states") {
        const unique_fd fd = body_file(body, k_all_seals);
        const int fds[] = {fd.get(), fd.get()};
        expect_refused(v, large(body.size(), 1), fds);
    }
    v.expect_unharmed();
}
