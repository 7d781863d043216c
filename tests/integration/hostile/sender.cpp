// A session in the hands of somebody with fewer rights, who speaks the protocol himself.
#include <doctest/doctest.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <vector>

#include "ipc/base/fd.hpp"
#include "ipc/base/identity.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/identity_message.hpp"
#include "tests/integration/hostile/hostile_session.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

constexpr uid_t k_someone = 65534;

// In a copy of this process that has given up root: what `body` says, 0 for all is well.
int as_someone(const std::function<int()>& body) {
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        const gid_t group = 7;
        const bool changed = ::setgroups(1, &group) == 0 &&
                             ::setresgid(k_someone, k_someone, k_someone) == 0 &&
                             ::setresuid(k_someone, k_someone, k_someone) == 0;
        ::_exit(changed ? body() : 99);
    }
    int status = 0;
    REQUIRE(ipc::retry([&] { return ::waitpid(pid, &status, 0); }) == pid);
    REQUIRE(WIFEXITED(status));
    return WEXITSTATUS(status);
}

bool skipped_without_root() {
    if (::geteuid() == 0) return false;
    MESSAGE("skipped: needs root, to give it up");
    return true;
}

// Of the caller himself.
v1::SpawnRequest honest() {
    v1::SpawnRequest r = program({"/bin/true"});
    r.set_cwd_path("/");
    ipc::to_wire(ipc::own_identity().rights, *r.mutable_caller()->mutable_rights());
    return r;
}

bool is_refused(raw_session& s, const v1::SpawnRequest& r) {
    const v1::SpawnReply reply = s.try_spawn(r);
    return reply.has_failure() && static_cast<step>(reply.failure().step()) == step::identity &&
           reply.failure().error_number() == EPERM;
}

bool is_refused(raw_session& s, v1::ClientMessage m) {
    const failure f = failure_in(s.request(std::move(m)));
    return f.step == step::identity && f.error_number == EPERM;
}

}  // namespace

TEST_CASE("who has given up root gets nothing of it back through his session") {
    if (skipped_without_root()) return;
    const test_daemon daemon;
    raw_session s(daemon);
    const live_child roots = s.spawn(sleeper());
    const int wrong = as_someone([&] {
        int n = 1;
        // Each of these asks for more.
        const std::vector<std::function<void(v1::SpawnRequest&)>> greedy{
            [](auto& r) { r.clear_caller(); },
            [](auto& r) { r.set_as_forkserver(true); },
            [](auto& r) { r.mutable_caller()->mutable_rights()->mutable_user()->set_effective(0); },
            [](auto& r) { r.mutable_caller()->mutable_rights()->mutable_user()->set_saved(0); },
            [](auto& r) { r.mutable_caller()->mutable_rights()->mutable_group()->set_real(0); },
            [](auto& r) { r.mutable_caller()->mutable_rights()->mutable_groups()->add_gid(0); },
            [](auto& r) { r.mutable_caller()->mutable_rights()->set_permitted(1); },
            [](auto& r) { r.mutable_caller()->mutable_rights()->set_inheritable(1); },
            [](auto& r) { r.mutable_caller()->mutable_rights()->set_ambient(1); },
            [](auto& r) { r.mutable_caller()->mutable_conduct()->set_nice(-5); },
            [](auto& r) { r.mutable_caller()->mutable_conduct()->set_oom_score_adj(-999); },
            [](auto& r) {
                v1::Rlimit& l = *r.mutable_caller()->mutable_conduct()->add_rlimits();
                l.set_resource(RLIMIT_CORE + 1);
                l.set_hard(~std::uint64_t{0});
            }};
        const rlimit no_core{0, 0};
        if (::setrlimit(RLIMIT_CORE, &no_core) != 0) return 98;
        for (const auto& make : greedy) {
            v1::SpawnRequest r = honest();
            make(r);
            if (!is_refused(s, r)) return n;
            ++n;
        }
        v1::ClientMessage batch;
        *batch.mutable_batch()->add_items() = honest();
        *batch.mutable_batch()->add_items() = program({"/bin/true"});
        if (!is_refused(s, std::move(batch))) return 40;
        v1::ClientMessage added;
        added.mutable_add_template()->set_name("t");
        *added.mutable_add_template()->mutable_process() = program({"/bin/true"});
        if (!is_refused(s, std::move(added))) return 41;
        v1::ClientMessage end;
        end.mutable_shutdown();
        if (!is_refused(s, std::move(end))) return 42;
        return s.try_spawn(honest()).has_spawned() ? 0 : 43;
    });
    CHECK(wrong == 0);
    // The session itself goes on, with its child.
    s.spawn_true();
    CHECK(::kill(roots.pid, 0) == 0);
    CHECK(ipc::process_ref(roots.pid, ipc::dup_fd(roots.pidfd.get())).signal(SIGKILL) == 0);
    (void)s.await_exit(roots.id);
}

TEST_CASE("who has given up root signals the children of his session alone") {
    if (skipped_without_root()) return;
    const test_daemon daemon;
    raw_session owner(daemon);
    raw_session other(daemon);
    const live_child of_owner = owner.spawn(sleeper());
    const int wrong = as_someone([&] {
        v1::ClientMessage m;
        m.mutable_signal()->set_child(of_owner.id);
        m.mutable_signal()->set_signal(SIGKILL);
        return failure_in(other.request(std::move(m))).error_number == EPERM ? 0 : 1;
    });
    CHECK(wrong == 0);
    v1::ClientMessage m;
    m.mutable_signal()->set_child(of_owner.id);
    m.mutable_signal()->set_signal(SIGKILL);
    CHECK(failure_in(owner.request(std::move(m))).step == step::none);
    CHECK(owner.await_exit(of_owner.id).signal() == SIGKILL);
}
