#include "tests/integration/leases/lease_support.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "ipc/base/process_stat.hpp"

namespace cleanfork::testing {

int raw_lease::send(std::string_view packet, std::span<const int> fds) const {
    return ipc::send_packet(channel.get(), packet, fds) == ipc::send_status::sent ? 0 : errno;
}

int raw_lease::call(const std::string& entry, std::vector<std::string_view> arguments,
                    std::span<const int> fds) const {
    return send(ipc::pack_lease(content(entry, std::move(arguments))), fds);
}

ipc::lease_message raw_lease::word() const {
    pollfd p{words.get(), POLLIN, 0};
    REQUIRE(::poll(&p, 1, k_patience_ms) == 1);
    ipc::lease_message m;
    if (::read(words.get(), &m.word, sizeof m.word) != sizeof m.word) return {};
    m.text.resize(m.word.text_size);
    REQUIRE(::read(words.get(), m.text.data(), m.text.size()) ==
            static_cast<ssize_t>(m.text.size()));
    return m;
}

void raw_lease::stop() const {
    REQUIRE(ipc::pidfd_signal(pidfd.get(), SIGSTOP) == 0);
    while (!ipc::stat_of(pid)->is_stopped()) {
    }
}

void raw_lease::go_on() const { REQUIRE(ipc::pidfd_signal(pidfd.get(), SIGCONT) == 0); }

bool raw_lease::ends() const {
    return ipc::pidfd_wait(pidfd.get(), ipc::pidfd_event::ended, k_patience_ms);
}

bool raw_lease::ended() const { return ipc::pidfd_wait(pidfd.get(), ipc::pidfd_event::ended, 0); }

v1::SpawnRequest lease_request(const std::string& name) {
    v1::SpawnRequest r;
    r.mutable_call()->set_template_name(name);
    r.mutable_call()->set_lease(true);
    r.mutable_call()->set_answer_descriptor(1);
    return r;
}

raw_lease lease_child(raw_session& s, v1::SpawnRequest r) {
    raw_lease l;
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    l.words.reset(ends[0]);
    const unique_fd of_child(ends[1]);
    v1::ClientMessage m;
    m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
    *m.mutable_spawn() = std::move(r);
    const int fd = of_child.get();
    reply got = s.request(std::move(m), {&fd, 1});
    l.refused = failure_in(got);
    if (l.refused.step != step::none) return l;
    const v1::Spawned& spawned = got.message.spawn().spawned();
    REQUIRE(spawned.lease_descriptor() == 2);
    REQUIRE(got.descriptors.size() == 2);
    CHECK(got.message.descriptors(1) == v1::DESCRIPTOR_PURPOSE_LEASE);
    l.child = spawned.child();
    l.pid = spawned.pid();
    l.pidfd = std::move(got.descriptors[0]);
    l.channel = std::move(got.descriptors[1]);
    return l;
}

ipc::lease_content content(std::string_view entry, std::vector<std::string_view> arguments) {
    return {.entry = entry,
            .payload = {},
            .arguments = std::move(arguments),
            .moves = {},
            .payload_descriptor = -1,
            .result_descriptor = -1,
            .tells_answer = true};
}

void tell_used(raw_session& s, const raw_lease& l, const std::string& entry) {
    v1::ClientMessage m;
    v1::LeaseUse& use = *m.add_leases_used();
    use.set_child(l.child);
    use.mutable_call()->set_template_name("t");
    use.mutable_call()->set_entry(entry);
    m.mutable_acknowledge();
    REQUIRE(s.send(std::move(m)));
}

std::optional<v1::ChildInfo> listed(raw_session& s, std::uint64_t child) {
    const v1::ListReply all = s.list();
    for (const v1::ChildInfo& c : all.children())
        if (c.child() == child) return c;
    return std::nullopt;
}

}  // namespace cleanfork::testing
