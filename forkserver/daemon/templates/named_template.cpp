#include "forkserver/daemon/templates/named_template.hpp"

#include <algorithm>
#include <boost/system/system_error.hpp>

#include "forkserver/daemon/loop/boundary.hpp"
#include "forkserver/daemon/templates/start.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// A generation that lived so long was well: the next failure starts from the first pause.
constexpr std::chrono::seconds k_well{10};

}  // namespace

// ---- starts ----------------------------------------------------------------

void named_template::start(shared_spec spec, session_id session, v1::ServerMessage reply) {
    spec_ = std::move(spec);
    restart(session, std::move(reply));
}

void named_template::restart(session_id session, v1::ServerMessage reply) {
    replies_.push_back({session, std::move(reply)});
    start_next();
}

bool named_template::join(session_id session, v1::ServerMessage& reply, bool at_once) {
    if (!current_ && !next_) return false;
    reply.mutable_add_template()->set_was_there(true);
    pending_reply asked{session, std::move(reply)};
    if (current_ || at_once)
        answer(asked, {});
    else
        replies_.push_back(std::move(asked));
    return true;
}

result<void> named_template::take_early(shared_spec spec, int pid, unique_fd control) {
    spec_ = std::move(spec);
    ipc::process_ref process = tools_.launcher.own_process({pid, ipc::pidfd_open(pid)});
    if (!process) return ipc::fail(step::template_start, errno, spec_->name);
    retire_next();
    if (auto made = make_next(std::move(control), unique_fd()); !made) return made;
    child_origin origin;
    origin.command = spec_->name;
    origin.process_of = next_->id();
    auto added = tools_.children.add(std::move(origin), std::move(process), ipc::monotonic_ns());
    if (!added) {
        next_.reset();
        return added.error();
    }
    next_->process_began((*added)->process);
    owner_.on_deadline();
    return {};
}

// One that was starting already is dropped for it.
void named_template::start_next() {
    backoff_.cancel();
    retire_next();
    if (auto r = start_process(); !r) {
        tools_.log.warning("template_failed",
                           {{"template", spec_->name}, {"why", r.error().message()}});
        last_error_ = r.error();
        last_messages_.clear();
        ended_as_ = generation_state::failed;
        if (!current_) {
            fail_waiting(r.error());
            if (was_ready_) schedule_restart();
        }
        settle(r.error());
    }
    owner_.on_deadline();
}

result<void> named_template::start_process() {
    auto asked = request_start(*spec_);
    if (!asked) return asked.error();
    if (auto made = make_next(std::move(asked->control), std::move(asked->messages)); !made)
        return made;
    queued_spawn& q = asked->spawn;
    if (!spec_->from.empty()) {
        q.becomes = next_->id();
        q.request->mutable_call()->set_template_name(spec_->from);
        auto derived = owner_.on_derive(spec_->from, std::move(q));
        if (!derived) next_.reset();
        return derived;
    }
    const auto failed = [&to = owner_, id = next_->id()](const failure& why) {
        to.on_not_begun(id, why);
    };
    auto made = spawn_process({tools_.launcher, tools_.children, tools_.begin, failed}, next_->id(),
                              std::move(q));
    if (!made) {
        next_.reset();
        return made.error();
    }
    next_->process_began((*made)->process);
    return {};
}

result<void> named_template::make_next(unique_fd control, unique_fd messages) try {
    next_ = std::make_unique<generation>(
        tools_.io, tools_.launcher, tools_.log,
        generation::identity{spec_, owner_.take_generation_id(), ++number_, std::move(control),
                             std::move(messages)},
        static_cast<generation_owner&>(*this), owner_);
    tools_.log.debug("template_starting",
                     {{"template", spec_->name}, {"generation", std::uint64_t{next_->number()}}});
    return {};
} catch (const boost::system::system_error& e) {
    return ipc::fail(step::template_start, e.code().value(), spec_->name, e.what());
}

void named_template::retire_next() {
    if (!next_) return;
    old_.push_back(std::move(next_));
    old_.back()->retire();
}

void named_template::schedule_restart() {
    backoff_.schedule(clock::now());
    owner_.on_deadline();
}

// ---- what becomes of generations -------------------------------------------

// Tried once more when there is no memory: who waits would wait for ever. What was done the first
// time is not done again.
void named_template::on_state(generation& g, const failure& why) {
    insist(tools_.io, "template", [&] {
        if (is_old(g)) return;
        if (g.state() == generation_state::ready)
            ready();
        else
            broken(g, why);
    });
    owner_.on_chores();
}

void named_template::on_change(generation& g) {
    if (!is_old(g)) serve_waiting();
    owner_.on_chores();
}

void named_template::ready() {
    if (next_) {
        tools_.log.info("template_ready", {{"template", spec_->name},
                                           {"generation", std::uint64_t{next_->number()}}});
        if (current_) {
            old_.push_back(std::move(current_));
            old_.back()->retire();
            tools_.log.debug(
                "template_draining",
                {{"template", spec_->name}, {"generation", std::uint64_t{old_.back()->number()}}});
        }
        current_ = std::move(next_);
    }
    was_ready_ = true;
    last_error_ = {};
    last_messages_.clear();
    settle({});
    serve_waiting();
}

void named_template::broken(generation& g, const failure& why) {
    tools_.log.warning("template_failed", {{"template", spec_->name},
                                           {"generation", std::uint64_t{g.number()}},
                                           {"why", why.message()}});
    last_error_ = why;
    last_messages_ = g.messages();
    ended_as_ = g.state();
    const bool was_current = &g == current_.get();
    if (was_current && clock::now() - g.ready_since() > k_well) backoff_.forgive();
    old_.push_back(std::move(was_current ? current_ : next_));
    if (!current_ && !next_) {
        fail_waiting(why);
        // What does not start at all, or is not clean, will not be so the next time.
        if (was_ready_ && ended_as_ != generation_state::refused && !spec_->early)
            schedule_restart();
    }
    if (!was_current) settle(why);
}

void named_template::settle(const failure& why) {
    for (pending_reply& asked : std::exchange(replies_, {}))
        insist(tools_.io, "template", [&] { answer(asked, why); });
}

void named_template::answer(pending_reply& asked, const failure& why) {
    v1::ServerMessage& reply = asked.reply;
    if (why.step != step::none)
        ipc::to_wire(why, *reply.mutable_failure());
    else if (reply.has_add_template())
        to_wire(*reply.mutable_add_template()->mutable_info());
    else
        to_wire(*reply.mutable_reload_template()->mutable_info());
    owner_.on_settled(asked.session, reply);
}

void named_template::leave(const failure& why) {
    stop(why);
    settle(why);
    for (auto* g : {&current_, &next_})
        if (*g) old_.push_back(std::move(*g));
    for (const auto& g : old_) g->retire();
}

void named_template::stop(const failure& why) {
    fail_waiting(why);
    backoff_.cancel();
}

void named_template::kill() {
    for (generation* g : generations()) g->kill();
}

// ---- calls -----------------------------------------------------------------

void named_template::call(queued_spawn q) {
    if (!q.becomes && !q.lease) ++calls_total_;
    if (current_ && waiting_.empty() && current_->room()) return current_->call(std::move(q));
    if (!current_ && !next_) {
        failure why = last_error_;
        why.detail += (why.detail.empty() ? "" : "; ");
        why.detail += "template " + spec_->name + " has failed";
        return owner_.on_call_failed(std::move(q), why);
    }
    waiting_.push_back(std::move(q));
    owner_.on_deadline();
}

void named_template::serve_waiting() {
    while (!waiting_.empty() && current_ && current_->room()) {
        queued_spawn q = std::move(waiting_.front());
        waiting_.pop_front();
        if (is_late(q))
            owner_.on_call_failed(std::move(q), late_failure());
        else
            current_->call(std::move(q));
    }
}

void named_template::fail_waiting(const failure& why) {
    for (queued_spawn& q : std::exchange(waiting_, {})) owner_.on_call_failed(std::move(q), why);
}

std::vector<queued_spawn> named_template::take_back(session_id session, request_id request) {
    std::vector<queued_spawn> taken;
    for (auto at = waiting_.begin(); at != waiting_.end();) {
        const bool meant = !at->becomes && (!session || at->session == session) &&
                           (!request || at->request_id == request);
        if (meant) taken.push_back(std::move(*at));
        at = meant ? waiting_.erase(at) : std::next(at);
    }
    for (generation* g : generations())
        for (queued_spawn& q : g->take_back(session, request)) taken.push_back(std::move(q));
    return taken;
}

void named_template::session_is_over(session_id session) {
    (void)take_back(session, {});
    std::erase_if(replies_, [session](const pending_reply& r) { return r.session == session; });
}

// ---- chores ----------------------------------------------------------------

void named_template::clean_up() {
    std::erase_if(old_, [](const auto& g) { return g->over(); });
    serve_waiting();
}

bool named_template::refill() { return current_ && waiting_.empty() && current_->refill(); }

void named_template::sweep(clock::time_point now) {
    for (generation* g : generations()) g->sweep(now);
    std::vector<queued_spawn> late;
    for (auto at = waiting_.begin(); at != waiting_.end();) {
        const bool too_late = is_late(*at);
        if (too_late) late.push_back(std::move(*at));
        at = too_late ? waiting_.erase(at) : std::next(at);
    }
    if (backoff_.is_due(now)) {
        ++restarts_;
        start_next();
    }
    for (queued_spawn& q : late) owner_.on_call_failed(std::move(q), late_failure());
}

template <class Predicate>
generation* named_template::first(Predicate is_it) const {
    for (const auto& g : old_)
        if (is_it(*g)) return g.get();
    for (const auto* g : {&current_, &next_})
        if (*g && is_it(**g)) return g->get();
    return nullptr;
}

bool named_template::has_deadlines() const {
    return !waiting_.empty() || backoff_.is_pending() ||
           first([](const generation& g) { return g.has_deadlines(); }) != nullptr;
}

generation* named_template::find(generation_id id) const {
    return first([id](const generation& g) { return g.id() == id; });
}

// A copy, since what is done with them may move them.
std::vector<generation*> named_template::generations() const {
    std::vector<generation*> all;
    for (const auto& g : old_) all.push_back(g.get());
    for (const auto* g : {&current_, &next_})
        if (*g) all.push_back(g->get());
    return all;
}

void named_template::to_wire(v1::TemplateInfo& out) const {
    out.set_name(spec_->name);
    out.set_command(spawn::command_of(spec_->process));
    out.set_from(spec_->from);
    out.set_warm_wanted(static_cast<std::uint32_t>(spec_->warm));
    if (last_error_.step != step::none) ipc::to_wire(last_error_, *out.mutable_last_error());
    out.set_stderr_tail(last_messages_);
    out.set_restarts(restarts_);
    out.set_calls_total(calls_total_);
    out.set_waiting(waiting_.size());
    if (backoff_.is_pending())
        out.set_retry_in_ms(static_cast<std::uint64_t>(backoff_.left(clock::now()).count()));
    if (next_) next_->to_wire(*out.add_generations());
    if (current_) current_->to_wire(*out.add_generations());
    for (auto g = old_.rbegin(); g != old_.rend(); ++g) (*g)->to_wire(*out.add_generations());
    out.set_generation(current_ ? current_->number() : 0);
    out.set_state(current_                                 ? v1::TEMPLATE_STATE_READY
                  : next_                                  ? v1::TEMPLATE_STATE_STARTING
                  : ended_as_ == generation_state::refused ? v1::TEMPLATE_STATE_REFUSED
                                                           : v1::TEMPLATE_STATE_FAILED);
}

}  // namespace cleanfork::daemon
