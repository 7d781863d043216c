// Spawns of programs: from a request to a process that runs it.
#include "forkserver/daemon/children/tree.hpp"
#include "forkserver/daemon/log_writers.hpp"
#include "forkserver/daemon/origins.hpp"
#include "forkserver/daemon/spawns.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// A process that could not begin its program is gone at once, as a rule.
constexpr int k_end_ms = 2;

birth_cause cause_of(const queued_spawn& q, const child_origin& o) {
    birth_cause c;
    c.session = q.session;
    c.request = q.request_id;
    c.command = o.command;
    if (q.timeout_ns) c.deadline_ns = q.received_ns + *q.timeout_ns;
    return c;
}

}  // namespace

// One whose process had not begun its program when the loop went on.
class spawns::late_spawn final : public born {
public:
    explicit late_spawn(spawns& of) : of_(of) {}
    void be(queued_spawn q, expected e) noexcept {
        q_ = std::move(q);
        expected_ = std::move(e);
    }

    void begun(result<spawn::spawned> process) override {
        of_.begun_late(std::move(q_), std::move(expected_), std::move(process));
    }

private:
    spawns& of_;
    queued_spawn q_;
    expected expected_;
};

// When the child cannot be started after all, they find the ends of their pipes.
result<void> spawns::begin_log_writers(queued_spawn& q) {
    auto writers = take_log_writers(q, core_.closing);
    if (!writers) return writers.error();
    for (queued_spawn& w : *writers) {
        auto begun = begin_exec(w, true);
        if (!begun) return begun.error();
    }
    return {};
}

result<spawns::expected> spawns::expect(queued_spawn& q) {
    expected e{origin_of(q), nullptr};
    // It is looked at here for a tree alone; else prepare() does it once.
    auto tree =
        prepare_tree(*q.request, trees_,
                     e.origin.lifetime.target == signal_target::tree ? cgroup_of(q) : unique_fd());
    if (!tree) return tree.error();
    e.origin.tree = std::move(*tree);
    auto again = restarts_.prepare(*q.request, q.purposes, q.descriptors, q.base);
    if (!again) return again.error();
    e.restart = std::move(*again);
    return e;
}

result<child*> spawns::begin_exec(queued_spawn& q, bool is_service) {
    auto e = expect(q);
    if (!e) return e.error();
    if (q.request->has_queue_timeout_ns()) q.timeout_ns = q.request->queue_timeout_ns();
    auto p = spawn::prepare(std::move(q.request), q.purposes, q.descriptors, q.base,
                            core_.launcher.self());
    if (!p) return p.error();
    if ((*p)->plan.cgroup_fd >= 0) {
        e->origin.cgroup = core_.launcher.own_descriptor((*p)->dup_cgroup());
        if (!e->origin.cgroup) return ipc::fail(step::prepare, errno, "cgroup");
    }
    e->origin.is_service = is_service;
    e->origin.place = place_of_child(q.session);
    // Once there is a process nothing of this may throw.
    birth_cause cause = cause_of(q, e->origin);
    auto late = std::make_unique<late_spawn>(*this);
    auto room = births::make_room();
    auto made = core_.launcher.begin(std::move(*p));
    if (!made) return made.error();
    has_process_ = true;
    spawn::birth& b = **made;
    // What else is there goes on beside it.
    const bool waits = queue_.empty() || !births_.has_room_beside();
    const bool begun = waits ? b.wait(births_.patience(q.session)) : b.has_told();
    if (begun && !b.failed())
        return take_in(std::move(*e), {std::move(b.process()), b.started_ns()});
    if (begun && ipc::pidfd_wait(b.process().pidfd(), ipc::pidfd_event::ended, k_end_ms)) {
        (void)b.process().reap(WNOHANG);
        return b.why();
    }
    late->be(std::move(q), std::move(*e));
    births_.add(std::move(room), std::move(*made), std::move(cause), std::move(late));
    return nullptr;
}

result<child*> spawns::take_in(expected e, spawn::spawned process) {
    const std::uint64_t now = ipc::monotonic_ns();
    auto added = children_.add(std::move(e.origin), std::move(process.process), process.started_ns);
    if (!added) return added;
    child& c = **added;
    begun_ = c.id;
    if (e.restart) {
        c.restart = std::move(e.restart);
        c.restart->schedule.started(steady::now());
    }
    core_.total.count_spawn(now - process.started_ns);
    return added;
}

}  // namespace cleanfork::daemon
