// Descriptors whose close takes as long as a client chose: nobody else waits for it.
#include <doctest/doctest.h>

#include <csignal>
#include <vector>

#include "ipc/base/fd.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/helpers/lingering.hpp"
#include "tests/integration/hostile/hostile_session.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

v1::SpawnRequest with_descriptor(v1::SpawnRequest r) {
    map_descriptor(r, 1, 9);
    return r;
}

std::uint64_t post(raw_session& s, const v1::SpawnRequest& r, int fd) {
    return s.post_spawn(r, {&fd, 1});
}

}  // namespace

TEST_CASE("the socket of a request that is refused keeps nobody waiting, and its data arrives") {
    test_daemon daemon;
    raw_session neighbour(daemon);
    raw_session s(daemon);
    lingering socket;
    v1::SpawnRequest wrong = with_descriptor(program({"/bin/true"}));
    map_descriptor(wrong, 1, -1);
    daemon.stop();  // so that the forkserver has the last one
    const std::uint64_t id = post(s, wrong, socket.get());
    socket.forget();
    daemon.signal(SIGCONT);
    CHECK(failure_in(s.reply_to(id)).step == step::request);
    neighbour.spawn_true();
    s.spawn_true();
    CHECK(socket.read_all() > 0);  // its end came too
}

TEST_CASE("a session that ends with sockets unread keeps nobody waiting") {
    test_daemon daemon;
    raw_session neighbour(daemon);
    const auto end_by = [&](auto send) {
        raw_session s(daemon);
        lingering socket;
        const int fd = socket.get();
        send(s, fd);
        socket.forget();
        s.close();
        neighbour.spawn_true();
    };
    SUBCASE("behind a packet that ends it") {
        end_by([](raw_session& s, int fd) {
            (void)s.send_bytes("no message");
            (void)s.send_bytes("another", {&fd, 1});
        });
    }
    SUBCASE("in an empty packet, which ends it") {
        end_by([](raw_session& s, int fd) { (void)s.send_bytes("", {&fd, 1}); });
    }
    SUBCASE("in a packet that is no message") {
        end_by([](raw_session& s, int fd) { (void)s.send_bytes("no message", {&fd, 1}); });
    }
    SUBCASE("with a request that takes no descriptors") {
        end_by([](raw_session& s, int fd) {
            v1::ClientMessage m;
            m.mutable_stats();
            m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
            s.send(std::move(m), {&fd, 1});
        });
    }
    SUBCASE("in the queue of a Unix socket") {
        end_by([](raw_session& s, int fd) {
            auto pair = ipc::seqpacket_pair();
            REQUIRE(pair.has_value());
            REQUIRE(ipc::send_packet(pair->first.get(), "x", {&fd, 1}) == ipc::send_status::sent);
            const int outer = pair->second.get();
            (void)s.send_bytes("no message", {&outer, 1});
        });
    }
    SUBCASE("as its directory") {
        end_by([](raw_session& s, int fd) {
            v1::ClientMessage m;
            m.mutable_update_base()->mutable_base()->set_cwd_descriptor(1);
            m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CWD);
            s.send(std::move(m), {&fd, 1});
        });
    }
}

TEST_CASE("very many sockets that linger do not keep each other, and no descriptor stays") {
    test_daemon daemon;
    raw_session neighbour(daemon);
    neighbour.spawn_true();
    const std::uint64_t before = neighbour.stats().descriptors();
    raw_session s(daemon);
    std::vector<std::uint64_t> ids;
    std::vector<lingering> sockets(40);
    for (lingering& socket : sockets) {
        ids.push_back(post(s, with_descriptor(program({"/nonexistent/program"})), socket.get()));
        socket.forget();
    }
    for (const std::uint64_t id : ids) CHECK(failure_in(s.reply_to(id)).step == step::exec);
    neighbour.spawn_true();
    s.close();
    // Its helper goes as well, when it has had nothing to do for a while.
    neighbour.stats_until([&](const v1::StatsReply& r) { return r.descriptors() == before; });
}

TEST_CASE("a forkserver ends at once, whatever it still has to close") {
    test_daemon daemon;
    raw_session s(daemon);
    lingering socket;
    (void)post(s, with_descriptor(sleeper()), socket.get());
    socket.forget();
    daemon.signal(SIGTERM);
    CHECK(s.ends());
}
