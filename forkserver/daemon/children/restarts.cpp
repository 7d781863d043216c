#include "forkserver/daemon/children/restarts.hpp"

#include <csignal>

#include "forkserver/daemon/children/signalling.hpp"
#include "forkserver/daemon/loop/boundary.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

bool wants(const v1::SpawnRequest& r) {
    return r.restart().policy() > v1::RESTART_POLICY_NO || r.restart().policy() < 0;
}

// How a process "ended" that could not be started.
child_exit no_start(const failure& why) {
    return {.known = false, .error = "it could not be started again: " + why.message()};
}

}  // namespace

restarts::restarts(event_loop& io, spawn::launcher& launcher, child_table& children, births& begin,
                   spawn::shared_disposal disposal, logger& log, restarts_owner& owner)
    : io_(io),
      due_again_(io, "restarts", [this] { start_due(); }),
      launcher_(launcher),
      children_(children),
      births_(begin),
      disposal_(std::move(disposal)),
      log_(log),
      owner_(owner) {}

result<std::unique_ptr<child_restart>> restarts::prepare(
    const v1::SpawnRequest& request, const std::vector<int>& purposes,
    const spawn::shared_descriptors& descriptors, std::shared_ptr<const spawn::session_base> base) {
    if (!wants(request)) return std::unique_ptr<child_restart>();
    if (failure why = restart_schedule::refusal(request.restart()); why.step != step::none)
        return why;
    if (!request.lifetime().keep())
        return ipc::fail(step::request, EINVAL, "restart",
                         "it is for a child that is kept beyond its session");
    if (!request.has_exec())
        return ipc::fail(step::request, EINVAL, "restart", "it is for programs, not for calls");
    // Above those of requests, so that these stay cheap to hand on: see launcher.hpp.
    std::vector<unique_fd> copies;
    for (const unique_fd& fd : *descriptors) {
        copies.push_back(launcher_.own_descriptor(ipc::dup_fd(fd.get())));
        if (!copies.back()) return ipc::fail(step::prepare, errno, "restart");
    }
    auto r = std::make_unique<child_restart>(request, descriptors_, copies.size());
    r->purposes = purposes;
    r->descriptors = spawn::share(std::move(copies), disposal_);
    r->base = std::move(base);
    return r;
}

bool restarts::asks_to_end(const child& c, int signal) {
    return signal == SIGKILL || signal == SIGTERM || signal == SIGINT || signal == SIGQUIT ||
           signal == c.origin.lifetime.signal;
}

bool restarts::takes(child& c) {
    child_restart* const r = c.restart.get();
    if (r == nullptr) return false;
    const auto next = r->is_stopped ? std::nullopt : r->schedule.ended(*c.exit, steady::now());
    if (!next) {
        if (!r->is_stopped)
            log_.info("restarts_over", {{"child", c.id.value()}, {"restarts", r->count}});
        r->let_go();
        return false;
    }
    r->last = std::exchange(c.exit, std::nullopt);
    r->due = next;
    due_.emplace(*next, c.id);
    arm();
    return true;
}

void restarts::stop(child& c) {
    if (!c.restart) return;
    c.restart->is_stopped = true;
    if (!c.restart->due) return;
    due_.erase({*c.restart->due, c.id});
    over(c);
}

void restarts::stop_all() {
    std::vector<child_id> ids;
    children_.each([&](child& c) {
        if (c.restart) ids.push_back(c.id);
    });
    for (const child_id id : ids)
        if (child* c = children_.find(id)) stop(*c);
}

// A process of a child that had not begun its program when the loop went on.
class restarts::late_start final : public born {
public:
    late_start(restarts& of, child_id id) : of_(of), id_(id) {}
    void begun(result<spawn::spawned> process) override { of_.begun(id_, std::move(process)); }

private:
    restarts& of_;
    child_id id_;
};

// The exit is that of the process before.
void restarts::over(child& c) {
    c.restart->due.reset();
    c.exit = c.restart->last;
    c.restart->let_go();
    owner_.on_over(c);
    owner_.on_restarts_drained();
}

void restarts::arm() {
    if (!due_.empty()) due_again_.set(due_.begin()->first);
}

void restarts::start_due() {
    while (!due_.empty() && due_.begin()->first <= steady::now()) {
        const child_id id = due_.begin()->second;
        due_.erase(due_.begin());
        bounded(io_, "restarts", [&] { start_or_fail(id); });
    }
    arm();
}

void restarts::start_or_fail(child_id id) {
    child* c = children_.find(id);
    if (c == nullptr) return;
    try {
        start(*c);
    } catch (...) {
        const failure why = caught(io_, "restart");
        c = children_.find(id);
        if (c != nullptr && c->is_between_starts()) fail(*c, why);
    }
}

void restarts::start(child& c) {
    child_restart& r = *c.restart;
    // What the process before has left of its tree goes first: of a service there is one. Not by
    // cgroup.kill: Linux 6.14 to 6.18 kill whoever is born from outside in a cgroup that ever was
    // killed so (kill_seq in kernel/cgroup/cgroup.c is compared with that of the parent's cgroup).
    if (c.origin.tree.by != v1::TREE_MEANS_UNSPECIFIED)
        signal_child(c, SIGKILL, signal_target::tree, {.cgroup_kill = false});
    ++r.count;
    r.schedule.started(steady::now());
    auto p = spawn::prepare(std::make_unique<v1::SpawnRequest>(r.request), r.purposes,
                            r.descriptors, r.base, launcher_.self());
    if (!p) return fail(c, p.error());
    birth_cause cause;
    cause.command = c.origin.command;
    auto late = std::make_unique<late_start>(*this, c.id);
    auto room = births::make_room();
    auto made = launcher_.begin(std::move(*p));
    if (!made) return fail(c, made.error());
    spawn::birth& b = **made;
    if (b.wait(births_.patience({})) && !b.failed())
        return begun(c.id, spawn::spawned{std::move(b.process()), b.started_ns()});
    births_.add(std::move(room), std::move(*made), std::move(cause), std::move(late));
}

void restarts::fail(child& c, const failure& why) {
    bounded(io_, "log", [&] {
        log_.warning("restart_failed", {{"child", c.id.value()}, {"why", why.message()}});
    });
    c.restart->due.reset();
    c.exit = no_start(why);
    if (takes(c)) return;
    owner_.on_over(c);
    owner_.on_restarts_drained();
}

// It may have been stopped meanwhile, or forgotten.
void restarts::begun(child_id id, result<spawn::spawned> process) {
    child* const c = children_.find(id);
    if (c == nullptr || !c->is_between_starts()) {
        if (process) discard(std::move(*process));
        return;
    }
    if (!process) return fail(*c, process.error());
    child_restart& r = *c->restart;
    r.due.reset();
    const pid_t pid = process->process.pid();
    auto watched = children_.begin_again(*c, std::move(process->process), process->started_ns);
    bounded(io_, "log", [&] {
        log_.info("restarted",
                  {{"child", id.value()}, {"pid", std::int64_t{pid}}, {"restarts", r.count}});
    });
    if (!watched) fail(*c, watched.error());
}

// Nobody's: it is ended, and reaped as any child is.
void restarts::discard(spawn::spawned process) {
    child_origin o;
    o.is_service = true;
    process.process.signal(SIGKILL);
    (void)children_.add(std::move(o), std::move(process.process), process.started_ns);
}

}  // namespace cleanfork::daemon
