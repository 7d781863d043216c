#include "tests/integration/hostile/hostile_session.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>

#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::testing {

namespace {

// Of the largest requests malloc keeps 4.0 MiB, for the next; a leak of each would be more.
constexpr std::uint64_t k_kept_by_allocator_kib = 8192;

bool await(int fd, short events) {
    pollfd p{fd, events, 0};
    return ipc::retry([&] { return ::poll(&p, 1, k_patience_ms); }) > 0;
}

std::vector<char> control_for(std::span<const int> fds) {
    std::vector<char> control(CMSG_SPACE(fds.size_bytes()));
    auto* c = reinterpret_cast<cmsghdr*>(control.data());
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
    return control;
}

}  // namespace

v1::SpawnRequest program(std::initializer_list<std::string> argv) {
    v1::SpawnRequest r;
    r.mutable_exec()->set_path(*argv.begin());
    for (const std::string& a : argv) r.mutable_exec()->add_argv(a);
    return r;
}

v1::SpawnRequest shell(std::string script) { return program({"/bin/sh", "-c", std::move(script)}); }

v1::SpawnRequest sleeper() { return program({helper_path("scale_pause")}); }

void map_descriptor(v1::SpawnRequest& r, std::uint32_t index, int target) {
    v1::DescriptorMapping& m = *r.add_descriptors();
    m.set_source_descriptor(index);
    m.set_target(target);
}

failure failure_in(const reply& r) {
    if (r.message.has_failure()) return ipc::from_wire(r.message.failure());
    if (r.message.spawn().has_failure()) return ipc::from_wire(r.message.spawn().failure());
    return {};
}

raw_session::raw_session(const test_daemon& daemon) : raw_session(daemon.connect()) { hello(); }

void raw_session::fail_now(const v1::StatsReply& s) {
    FAIL("the statistics never became what they should: ", s.sessions(), " sessions, ",
         s.children(), " children, ", s.statuses(), " statuses, ", s.queued(), " queued, ",
         s.descriptors(), " descriptors");
}

int raw_session::send_bytes(std::string_view bytes, std::span<const int> fds) const {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    std::vector<char> control;
    if (!fds.empty()) {
        control = control_for(fds);
        message.msg_control = control.data();
        message.msg_controllen = control.size();
    }
    const auto sent =
        ipc::retry([&] { return ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL); });
    return sent >= 0 ? 0 : errno;
}

bool raw_session::send(v1::ClientMessage m, std::span<const int> fds) {
    if (m.request_id() == 0) m.set_request_id(next_id());
    const auto e = ipc::encode(m);
    REQUIRE(e.has_value());
    for (;;) {
        const ipc::send_status s = ipc::send(socket_.get(), *e, fds);
        if (s == ipc::send_status::sent) return true;
        if (s != ipc::send_status::would_block) return false;
        REQUIRE(await(socket_.get(), POLLOUT));
    }
}

std::optional<reply> raw_session::receive() {
    for (;;) {
        ipc::received packet = receiver_.receive(socket_.get());
        if (packet.status == ipc::receive_status::would_block) {
            REQUIRE_MESSAGE(await(socket_.get(), POLLIN), "the daemon says nothing");
            continue;
        }
        if (packet.status == ipc::receive_status::closed) return std::nullopt;
        REQUIRE(packet.status == ipc::receive_status::packet);
        auto m = ipc::decode_server_message(std::move(packet));
        REQUIRE(m.has_value());
        note(m->message);
        return std::move(*m);
    }
}

void raw_session::note(const v1::ServerMessage& m) {
    for (const v1::Exit& e : m.exits().exits()) exits[e.child()] = e;
    if (m.spawn().spawned().has_exit())
        exits[m.spawn().spawned().child()] = m.spawn().spawned().exit();
    const auto quota = static_cast<std::uint32_t>(step::quota);
    if (m.failure().step() == quota || m.spawn().failure().step() == quota) ++refusals;
    if (m.request_id() == 0 && m.has_failure()) last_failure = ipc::from_wire(m.failure());
}

bool raw_session::ends() {
    while (receive()) {
    }
    return true;
}

v1::HelloReply raw_session::hello() {
    v1::ClientMessage m;
    m.mutable_hello()->set_protocol(ipc::k_protocol_version);
    m.mutable_hello()->set_version("test");
    m.mutable_hello()->mutable_base()->add_environment("PATH=/usr/bin:/bin");
    const reply r = request(std::move(m));
    REQUIRE(r.message.has_hello());
    return r.message.hello();
}

reply raw_session::request(v1::ClientMessage m, std::span<const int> fds) {
    m.set_request_id(next_id());
    const std::uint64_t id = m.request_id();
    REQUIRE(send(std::move(m), fds));
    return reply_to(id);
}

reply raw_session::reply_to(std::uint64_t request_id) {
    if (auto known = others_.extract(request_id)) return std::move(known.mapped());
    for (;;) {
        auto r = receive();
        REQUIRE_MESSAGE(r.has_value(), "the daemon has closed: ", last_failure.message());
        const std::uint64_t id = r->message.request_id();
        if (id == request_id) return std::move(*r);
        if (id != 0) others_.emplace(id, std::move(*r));
    }
}

std::uint64_t raw_session::post_spawn(const v1::SpawnRequest& r, std::span<const int> fds) {
    v1::ClientMessage m;
    m.set_request_id(next_id());
    *m.mutable_spawn() = r;
    for (std::uint32_t i = 1; i <= fds.size(); ++i)
        m.add_descriptors(i == r.cgroup_descriptor() ? v1::DESCRIPTOR_PURPOSE_CGROUP
                                                     : v1::DESCRIPTOR_PURPOSE_CHILD);
    const std::uint64_t id = m.request_id();
    REQUIRE(send(std::move(m), fds));
    return id;
}

v1::SpawnReply raw_session::try_spawn(const v1::SpawnRequest& r, std::span<const int> fds) {
    reply got = reply_to(post_spawn(r, fds));
    v1::SpawnReply out = got.message.spawn();
    if (got.message.has_failure()) *out.mutable_failure() = got.message.failure();
    return out;
}

live_child raw_session::spawn(const v1::SpawnRequest& r, std::span<const int> fds) {
    reply got = reply_to(post_spawn(r, fds));
    REQUIRE_MESSAGE(got.message.spawn().has_spawned(), failure_in(got).message());
    const v1::Spawned& s = got.message.spawn().spawned();
    live_child c{s.child(), s.pid(), {}};
    if (!got.descriptors.empty()) c.pidfd = std::move(got.descriptors.front());
    return c;
}

failure raw_session::spawn_failure(const v1::SpawnRequest& r, std::span<const int> fds) {
    const v1::SpawnReply got = try_spawn(r, fds);
    REQUIRE(got.has_failure());
    return ipc::from_wire(got.failure());
}

void raw_session::spawn_true() {
    const live_child c = spawn(program({helper_path("nothing")}));
    const v1::Exit e = await_exit(c.id);
    CHECK(e.how_case() == v1::Exit::kCode);
    CHECK(e.code() == 0);
    acknowledge({c.id});
}

v1::Exit raw_session::await_exit(std::uint64_t child) {
    for (;;) {
        const auto at = exits.find(child);
        if (at != exits.end()) {
            v1::Exit e = at->second;
            exits.erase(at);
            return e;
        }
        REQUIRE_MESSAGE(receive().has_value(), "the daemon has closed before the exit");
    }
}

void raw_session::acknowledge(std::initializer_list<std::uint64_t> children) {
    v1::ClientMessage m;
    m.mutable_acknowledge();
    for (const std::uint64_t c : children) m.add_acknowledged(c);
    REQUIRE(send(std::move(m)));
}

v1::StatsReply raw_session::stats() {
    v1::ClientMessage m;
    m.mutable_stats();
    const reply r = request(std::move(m));
    REQUIRE(r.message.has_stats());
    return r.message.stats();
}

v1::ListReply raw_session::list() {
    v1::ClientMessage m;
    m.mutable_list();
    const reply r = request(std::move(m));
    REQUIRE(r.message.has_list());
    return r.message.list();
}

void baseline::expect_again() {
    const v1::StatsReply now = observer_.stats_until([this](const v1::StatsReply& s) {
        return s.sessions() == before_.sessions() && s.children() == before_.children() &&
               s.statuses() == before_.statuses() && s.queued() == 0 &&
               s.descriptors() == before_.descriptors();
    });
    CHECK(now.descriptors() == before_.descriptors());
    if (k_sanitized) {
        MESSAGE("memory is not compared: AddressSanitizer keeps what was freed in quarantine");
        return;
    }
    CHECK_MESSAGE(now.rss_kib() <= before_.rss_kib() + k_kept_by_allocator_kib, now.rss_kib(),
                  " KiB, was ", before_.rss_kib());
}

}  // namespace cleanfork::testing
