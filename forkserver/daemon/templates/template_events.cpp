// What becomes of generations, and the chores that follow; see template_table.hpp.
#include <algorithm>
#include <boost/asio/post.hpp>
#include <cassert>
#include <csignal>

#include "forkserver/daemon/templates/template_table.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

using std::chrono::milliseconds;

namespace {

constexpr milliseconds k_sweep{100};
// Pools are filled when a child has ended, or this long after one began: a template that
// forks tells of no end, and most calls that are waited for are shorter.
constexpr milliseconds k_idle{4};
constexpr milliseconds k_between{1};  // calls pass from one fork of a pool to the next
constexpr milliseconds k_first_delay{100};
constexpr milliseconds k_longest_delay{30'000};
// A generation that lived so long was well: the next failure starts from the first delay.
constexpr std::chrono::seconds k_well{10};

}  // namespace

// ---- generations -----------------------------------------------------------

void template_table::on_state(generation& g, const failure& why) {
    entry* e = find(g);
    if (e == nullptr) return;
    if (g.now() == generation::state::ready)
        ready(*e);
    else
        broken(*e, g, why);
    later();
}

void template_table::ready(entry& e) {
    log_.info("template_ready",
              {{"template", e.spec->name}, {"generation", std::uint64_t{e.next->number()}}});
    if (e.current) {
        e.old.push_back(std::move(e.current));
        e.old.back()->retire();
    }
    e.current = std::move(e.next);
    e.was_ready = true;
    e.last_error = {};
    e.last_messages.clear();
    settled(e, {});
    serve_waiting(e);
}

void template_table::broken(entry& e, generation& g, const failure& why) {
    log_.warning("template_failed", {{"template", e.spec->name},
                                     {"generation", std::uint64_t{g.number()}},
                                     {"why", why.message()}});
    e.last_error = why;
    e.last_messages = g.messages();
    const bool was_current = &g == e.current.get();
    const bool lived = was_current && generation::clock::now() - g.ready_since() > k_well;
    if (lived) e.delay = {};
    e.state = g.now();
    e.old.push_back(std::move(was_current ? e.current : e.next));
    if (!e.current && !e.next) {
        fail_waiting(e, why);
        // What does not start at all, or is not clean, will not be so the next time.
        if (e.was_ready && g.now() != generation::state::refused && !e.spec->early)
            schedule_restart(e);
    }
    if (!was_current) settled(e, why);
}

void template_table::schedule_restart(entry& e) {
    e.delay = e.delay.count() == 0 ? k_first_delay : std::min(e.delay * 2, k_longest_delay);
    e.restart_at = generation::clock::now() + e.delay;
    arm_sweep();
}

// Everybody who asked for this generation learns what became of it.
void template_table::settled(entry& e, const failure& why) {
    for (auto& [session, reply] : std::exchange(e.replies, {})) {
        if (why.step != step::none)
            ipc::to_wire(why, *reply.mutable_failure());
        else if (reply.has_add_template())
            info(e, *reply.mutable_add_template()->mutable_info());
        else
            info(e, *reply.mutable_reload_template()->mutable_info());
        owner_.on_template_settled(session, std::move(reply));
    }
}

child_id template_table::on_started(generation& g, queued_spawn q, ipc::process_ref process) {
    if (!q.becomes) return owner_.on_call_started(std::move(q), g.id(), std::move(process));
    generation* made = find(q.becomes);
    if (made == nullptr) {
        process.signal(SIGKILL);
        return {};
    }
    child_origin origin;
    origin.command = spawn::command_of(*q.request);
    origin.process_of = made->id();
    origin.forked_by = g.id();
    const auto added = children_.add(std::move(origin), launcher_.own_process(std::move(process)),
                                     ipc::monotonic_ns());
    assert(added);  // the child of a template is always taken in
    made->process_began((*added)->id, (*added)->process.pid(), (*added)->process.pidfd());
    return (*added)->id;
}

void template_table::on_call_failed(generation&, queued_spawn q, const failure& why) {
    call_refused(std::move(q), why);
}

void template_table::call_refused(queued_spawn q, const failure& why) {
    if (!q.becomes) return owner_.on_call_failed(std::move(q), why);
    if (generation* made = find(q.becomes)) made->fail(why);
}

void template_table::on_ended(child_id id, int wait_status, v1::Usage usage, std::string error) {
    child_has_ended_ = true;
    if (child* c = children_.find(id)) {
        c->origin.forked_by = {};
        children_.ended(*c, wait_status, std::move(usage), std::move(error));
    }
}

void template_table::on_adopted(child_id id) {
    if (child* c = children_.find(id)) children_.adopt(*c);
}

void template_table::on_change(generation& g) {
    if (entry* e = find(g)) serve_waiting(*e);
    later();
}

void template_table::process_ended(generation_id id, int wait_status) {
    if (generation* g = find(id)) g->process_ended(wait_status);
    later();
}

void template_table::child_ended(generation_id from, child_id child) {
    if (generation* g = find(from)) g->forget_child(child);
    later();
}

// ---- chores ----------------------------------------------------------------

template_table::entry* template_table::find(const generation& g) {
    const auto at = entries_.find(g.spec().name);
    if (at == entries_.end()) return nullptr;
    entry& e = at->second;
    return e.current.get() == &g || e.next.get() == &g ? &e : nullptr;
}

generation* template_table::find(generation_id id) {
    generation* found = nullptr;
    each([&](generation& g) {
        if (g.id() == id) found = &g;
    });
    return found;
}

void template_table::each(const std::function<void(generation&)>& f) {
    for (auto& [name, e] : entries_) {
        for (std::size_t i = 0; i < e.old.size(); ++i) f(*e.old[i]);
        if (e.current) f(*e.current);
        if (e.next) f(*e.next);
    }
    for (std::size_t i = 0; i < leaving_.size(); ++i) f(*leaving_[i]);
}

void template_table::later() {
    if (chores_due_ || closed_) return;
    chores_due_ = true;
    boost::asio::post(io_, [this] {
        chores_due_ = false;
        chores();
    });
}

void template_table::chores() {
    const auto over = [](const auto& g) { return g->over(); };
    std::erase_if(leaving_, over);
    bool wanting = false;
    for (auto& [name, e] : entries_) {
        std::erase_if(e.old, over);
        serve_waiting(e);
        wanting |= e.spec->warm != 0;
    }
    arm_sweep();
    const bool at_once = std::exchange(child_has_ended_, false);
    if (wanting) arm_refill(at_once ? milliseconds(0) : k_idle);
}

void template_table::arm_refill(milliseconds pause) {
    const auto due = generation::clock::now() + pause;
    if (refill_due_ && *refill_due_ <= due) return;
    refill_due_ = due;
    refill_.expires_at(due);
    refill_.async_wait([this](boost::system::error_code ec) {
        if (ec || closed_) return;
        refill_due_.reset();
        // One at a time: a call that comes meanwhile waits for one fork at most.
        bool more = false;
        for (auto& [name, e] : entries_)
            if (e.current && e.waiting.empty()) more |= e.current->refill();
        if (more) arm_refill(k_between);
    });
}

void template_table::arm_sweep() {
    if (sweeping_ || closed_) return;
    bool wanted = false;
    for (auto& [name, e] : entries_)
        wanted |= !e.waiting.empty() || e.restart_at != generation::clock::time_point{};
    each([&](generation& g) { wanted |= g.has_deadlines(); });
    if (!wanted) return;
    sweeping_ = true;
    sweep_.expires_after(k_sweep);
    sweep_.async_wait([this](boost::system::error_code ec) {
        sweeping_ = false;
        if (ec || closed_) return;
        const auto now = generation::clock::now();
        std::vector<generation*> all;
        each([&](generation& g) { all.push_back(&g); });
        for (generation* g : all) g->sweep(now);
        later();  // a pool may be filled again
        std::vector<queued_spawn> late;
        for (auto& [name, e] : entries_) {
            for (auto at = e.waiting.begin(); at != e.waiting.end();) {
                const bool too_late = is_late(*at);
                if (too_late) late.push_back(std::move(*at));
                at = too_late ? e.waiting.erase(at) : std::next(at);
            }
            if (e.restart_at != generation::clock::time_point{} && e.restart_at <= now) {
                ++e.restarts;
                start(e);
            }
        }
        for (queued_spawn& q : late) owner_.on_call_failed(std::move(q), late_failure());
        arm_sweep();
    });
}

void template_table::shut_down(const failure& why) {
    for (auto& [name, e] : entries_) {
        fail_waiting(e, why);
        e.restart_at = {};
    }
    // Of a call that has not begun, the child is killed: nobody would end it later.
    std::vector<queued_spawn> unstarted;
    each([&](generation& g) {
        for (queued_spawn& q : g.remove({}, {})) unstarted.push_back(std::move(q));
    });
    for (queued_spawn& q : unstarted) owner_.on_call_failed(std::move(q), why);
}

void template_table::kill_all() {
    closed_ = true;
    each([](generation& g) { g.kill(); });
}

}  // namespace cleanfork::daemon
