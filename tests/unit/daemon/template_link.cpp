// The control socket of a template: what is ordered goes out, what is told comes in.
#include "forkserver/daemon/templates/template_link.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "forkserver/template/order.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"

using namespace cleanfork;
using namespace cleanfork::daemon;

namespace {

struct owner final : template_link_owner {
    std::vector<std::uint64_t> ended;  // sequences
    int closed = 0;

    void on_report(template_report& r) override { ended.push_back(r.event->sequence); }
    void dispose(std::vector<unique_fd>) noexcept override {}
    void on_link_closed() override { ++closed; }
};

struct scene {
    scene() {
        auto pair = ipc::seqpacket_pair();
        REQUIRE(pair.has_value());
        ours = std::move(pair->first);
        theirs = std::move(pair->second);
    }
    void tell_end(std::uint64_t sequence) {
        const templates::child_end e{{.kind = templates::report_kind::ended, .sequence = sequence},
                                     {}};
        REQUIRE(ipc::send_packet(theirs.get(), {reinterpret_cast<const char*>(&e), sizeof e}, {}) ==
                ipc::send_status::sent);
    }
    templates::order take_order(std::size_t descriptors) {
        ipc::receiver receiver;
        const ipc::received packet = receiver.receive(theirs.get());
        REQUIRE(packet.status == ipc::receive_status::packet);
        REQUIRE(packet.body.size() == sizeof(templates::order));
        CHECK(packet.descriptors.size() == descriptors);
        templates::order o{};
        std::memcpy(&o, packet.body.data(), sizeof o);
        return o;
    }

    event_loop io;
    unique_fd ours, theirs;
    owner told;
};

}  // namespace

TEST_CASE("an order to fork brings the child's channel and says whether its request is there") {
    scene s;
    template_link link(s.io, std::move(s.ours), s.told);
    auto channel = ipc::seqpacket_pair();
    REQUIRE(channel.has_value());
    using request = template_link::request;
    REQUIRE(link.order_fork(sequence_number(4), channel->first.get(), request::comes_later) == 0);
    REQUIRE(link.order_fork(sequence_number(5), channel->first.get(), request::waits_in_channel) ==
            0);
    link.order_kill(sequence_number(4));
    const templates::order warm = s.take_order(1);
    CHECK(warm.kind == templates::order_kind::fork);
    CHECK(warm.sequence == 4);
    CHECK(warm.warm == 1);
    const templates::order cold = s.take_order(1);
    CHECK(cold.sequence == 5);
    CHECK(cold.warm == 0);
    const templates::order killed = s.take_order(0);
    CHECK(killed.kind == templates::order_kind::kill);
    CHECK(killed.sequence == 4);
}

TEST_CASE("reports come in their order; what is no report is left out") {
    scene s;
    template_link link(s.io, std::move(s.ours), s.told);
    s.tell_end(1);
    REQUIRE(ipc::send_packet(s.theirs.get(), "no message", {}) == ipc::send_status::sent);
    s.tell_end(2);
    while (s.told.ended.size() < 2) (void)s.io.run_once();
    CHECK(s.told.ended == std::vector<std::uint64_t>{1, 2});
    s.tell_end(3);
    CHECK(link.drain());
    CHECK(s.told.ended == std::vector<std::uint64_t>{1, 2, 3});
    CHECK(link.is_open());
    CHECK(s.told.closed == 0);
}

TEST_CASE("what was told before the other end closed is not lost, and then no order is taken") {
    scene s;
    template_link link(s.io, std::move(s.ours), s.told);
    s.tell_end(1);
    s.theirs.reset();
    s.io.run();
    CHECK(s.told.ended == std::vector<std::uint64_t>{1});
    CHECK(s.told.closed == 1);
    CHECK_FALSE(link.is_open());
    CHECK(link.closed_since().has_value());
    auto channel = ipc::seqpacket_pair();
    REQUIRE(channel.has_value());
    CHECK(link.order_fork(sequence_number(1), channel->first.get(),
                          template_link::request::comes_later) == EPIPE);
    link.order_kill(sequence_number(1));
    CHECK_FALSE(link.drain());
}
