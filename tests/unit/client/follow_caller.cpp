// What a request says of its caller, for a forkserver that is something else.
#include "client/src/connection/follow_caller.hpp"

#include <doctest/doctest.h>
#include <linux/capability.h>

#include "ipc/wire/identity_message.hpp"

using namespace cleanfork;

namespace {

// As this thread, but for what a test changes.
ipc::identity like_us() {
    ipc::identity i = ipc::own_identity();
    i.rights.user.saved = i.rights.user.effective;
    i.rights.group.saved = i.rights.group.effective;
    return i;
}

v1::ClientMessage spawn_message() {
    v1::ClientMessage m;
    m.mutable_spawn();
    return m;
}

failure refusal(const ipc::identity& server) {
    v1::ClientMessage m = spawn_message();
    const auto r = detail::follow_caller(server, m);
    return r ? failure{} : r.error();
}

}  // namespace

TEST_CASE("a forkserver that is as its caller is told nothing") {
    v1::ClientMessage m = spawn_message();
    REQUIRE(detail::follow_caller(like_us(), m).has_value());
    CHECK_FALSE(m.spawn().has_caller());
}

TEST_CASE("what is different of limits and scheduling is told, and nothing else") {
    ipc::identity server = like_us();
    server.conduct.nice += 1;
    server.conduct.limits[RLIMIT_CORE].rlim_cur ^= 1;
    v1::ClientMessage m = spawn_message();
    REQUIRE(detail::follow_caller(server, m).has_value());
    const v1::Caller& caller = m.spawn().caller();
    CHECK_FALSE(caller.has_rights());
    CHECK(caller.conduct().nice() == server.conduct.nice - 1);
    REQUIRE(caller.conduct().rlimits_size() == 1);
    CHECK(caller.conduct().rlimits(0).resource() == RLIMIT_CORE + 1);
    CHECK_FALSE(caller.conduct().has_scheduling());
    CHECK(caller.conduct().cpus().empty());
}

TEST_CASE("rights are told as a whole, for each item of a batch that does not decline") {
    ipc::identity server = like_us();
    server.rights.user.real += 1;
    server.conduct.nice += 1;
    v1::ClientMessage m;
    m.mutable_batch()->add_items();
    m.mutable_batch()->add_items()->set_as_forkserver(true);
    REQUIRE(detail::follow_caller(server, m).has_value());
    CHECK(ipc::from_wire(m.batch().items(0).caller().rights()).user == like_us().rights.user);
    CHECK_FALSE(m.batch().items(1).has_caller());

    v1::ClientMessage added;
    added.mutable_add_template()->mutable_process();
    REQUIRE(detail::follow_caller(server, added).has_value());
    CHECK(added.add_template().process().caller().has_rights());
    CHECK_FALSE(added.add_template().process().caller().has_conduct());

    v1::ClientMessage reloaded;
    reloaded.mutable_reload_template();
    REQUIRE(detail::follow_caller(server, reloaded).has_value());
    CHECK(reloaded.reload_template().caller().has_rights());
}

TEST_CASE("a request that starts nothing is left alone, wherever the forkserver is") {
    ipc::identity server = like_us();
    server.place.root_inode += 1;
    v1::ClientMessage m;
    m.mutable_list();
    CHECK(detail::follow_caller(server, m).has_value());
    CHECK(m.has_list());
}

TEST_CASE("each place that no child can be given is named") {
    const auto with = [](auto change) {
        ipc::identity server = like_us();
        change(server);
        return refusal(server).object;
    };
    CHECK(with([](auto& s) { s.place.root_inode += 1; }) == "another root directory");
    CHECK(with([](auto& s) { s.place.root_mount += 1; }) == "another mount namespace");
    for (std::size_t i = 0; i < ipc::k_namespaces.size(); ++i) {
        if (like_us().place.namespaces[i] == 0) continue;  // a kernel without it
        CHECK(with([i](auto& s) { s.place.namespaces[i] += 1; }) ==
              "another namespace (" + std::string(ipc::k_namespaces[i]) + ")");
    }
    if (like_us().place.namespaces[0] != 0)
        CHECK(with([](auto& s) { s.place.namespaces.fill(0); }) ==
              "namespaces that /proc does not tell");
    ipc::identity server = like_us();
    server.place.seccomp_filters = -1;
    CHECK(refusal(server).step == step::identity);
    CHECK(refusal(server).error_number == EPERM);
}

TEST_CASE("rights that the forkserver has given up itself are a difference too") {
    ipc::identity server = like_us();
    server.rights.no_new_privs = true;
    if (!like_us().rights.no_new_privs) CHECK(refusal(server).object == "no_new_privs is not set");
    server = like_us();
    if ((server.rights.capabilities.bounding >> CAP_NET_RAW & 1) == 0) return;
    server.rights.capabilities.bounding &= ~(std::uint64_t{1} << CAP_NET_RAW);
    CHECK(refusal(server).object == "capability net_raw in the bounding set");
}
