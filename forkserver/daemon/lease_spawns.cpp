// What is special about a spawn that asks for a lease; see templates/leases.hpp.
#include <unistd.h>

#include "forkserver/daemon/spawns.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::int64_t k_nobody = -2;

failure no_lease(int error_number, const char* why) {
    return ipc::fail(step::request, error_number, "lease", why);
}

}  // namespace

// What the child has of its session by then cannot be taken from it. So whoever could not ask for
// it again must not use it later: one user alone is known of who sends, not what he may do.
std::int64_t spawns::lease_of(const session& s) {
    static const std::int64_t own = ::getuid();  // which this process does not change
    if (s.lends_rights) return -1;
    return s.sender_is_another ? k_nobody : own;
}

// They are a matter of speed, so they never take more than half of what there is: what is not
// asked for in advance finds room.
bool spawns::has_room_for_lease(const session& s) const {
    const quotas& q = core_.config.quotas;
    const std::size_t descriptors = core_.sessions.size() + 2 * children_.size();
    return (s.account->children + s.account->calls) * 2 < q.children_per_session &&
           (core_.of_user->children + core_.of_user->calls) * 2 < q.children_per_user &&
           descriptors * 2 < core_.config.descriptor_limit;
}

// Before anything is refused for want of room, what waits for nobody gives way.
void spawns::make_room(const session& s) {
    const quotas& q = core_.config.quotas;
    if (s.account->children + s.account->calls >= q.children_per_session) leases_.revoke(s.id());
    if (core_.of_user->children + core_.of_user->calls >= q.children_per_user) leases_.revoke_all();
}

failure spawns::prepare_lease(queued_spawn& q) {
    const v1::SpawnRequest& r = *q.request;
    const session* s = core_.sessions.find(q.session);
    if (s == nullptr || q.batch) return no_lease(EINVAL, "it is not asked for in a batch");
    const std::size_t own = r.call().answer_descriptor() == 0 ? 0 : 1;
    if (r.descriptors_size() != 0 || r.listen_descriptors_size() != 0 ||
        r.has_controlling_terminal() || q.descriptors->size() != own)
        return no_lease(EINVAL, "descriptors come with the call, and to the child itself");
    if (q.lease_of == k_nobody)
        return no_lease(EPERM, "its sender is another user than the forkserver");
    if (!has_room_for_lease(*s)) {
        ++core_.total.quota_refusals;
        return ipc::fail(step::quota, EDQUOT, "leases",
                         "RESOURCE_EXHAUSTED: half of what a session may have, or all of them, is "
                         "in use");
    }
    q.hold = {};
    return {};
}

void spawns::begin_lease(child& c, generation_id from, queued_spawn& q) {
    leases_.granted(c, from, std::move(*q.lease));
    const session* s = core_.sessions.find(q.session);
    // It begins from what its session has been meanwhile.
    if (core_.shutting_down || (s != nullptr && s->base != q.base)) leases_.revoke(c);
}

void spawns::lease_used(session& s, const v1::LeaseUse& use) {
    child* c = children_.find(child_id(use.child()));
    if (c == nullptr || c->origin.session != s.id() || !c->lease) return;
    // It was taken back, and its call was there before.
    if (!c->lease->channel) c->origin.place = charge(s.account, {.children = 1});
    v1::SpawnRequest shown;
    *shown.mutable_call() = use.call();
    c->origin.command = spawn::command_of(shown);
    c->started_ns = ipc::monotonic_ns();
    ++core_.measured.leased_calls;
    log_spawned(*c, "leased_call");
    templates_.call_began(c->origin.template_name);
    leases_.is_over(*c);
}

}  // namespace cleanfork::daemon
