#include "forkserver/daemon/templates/generation.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <csignal>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// For a template whose control socket is closed: it ends, or it is ended.
constexpr std::chrono::seconds k_to_end{1};

v1::TemplateState wire_state(generation_state s) noexcept {
    switch (s) {
        case generation_state::starting: return v1::TEMPLATE_STATE_STARTING;
        case generation_state::ready: return v1::TEMPLATE_STATE_READY;
        case generation_state::refused: return v1::TEMPLATE_STATE_REFUSED;
        case generation_state::failed: return v1::TEMPLATE_STATE_FAILED;
        case generation_state::draining: return v1::TEMPLATE_STATE_DRAINING;
    }
    return v1::TEMPLATE_STATE_UNSPECIFIED;
}

// Of one look at a template: the next may succeed, and the template is as it was.
bool passes(const failure& why) noexcept {
    const int e = why.error_number;
    return why.step != step::clean && (e == ENOMEM || e == EMFILE || e == ENFILE || e == EIO);
}

}  // namespace

generation::generation(event_loop& io, const spawn::launcher& launcher, logger& log, identity i,
                       generation_owner& owner, forked_children_owner& children)
    : launcher_(launcher),
      log_(log),
      owner_(owner),
      children_(children),
      spec_(std::move(i.spec)),
      id_(i.id),
      number_(i.number),
      link_(io, launcher.own_descriptor(std::move(i.control)), *this),
      messages_(io, i.messages ? launcher.own_descriptor(std::move(i.messages)) : unique_fd()),
      proof_(spec_),
      channels_(launcher),
      slots_(spec_->warm, spec_->call_timeout) {}

void generation::process_began(const ipc::process_ref& process) {
    assert(process_ == nullptr);
    process_ = &process;
    pid_ = process.pid();
    // Of a derived one: nobody waits for it any more.
    if (state_ != generation_state::starting) process_->signal(SIGKILL);
}

// ---- calls -----------------------------------------------------------------

bool generation::room() const noexcept {
    return state_ == generation_state::ready && link_.is_open() && slots_.room();
}

void generation::call(queued_spawn q) {
    const v1::SpawnRequest& r = *q.request;
    if (process_ != nullptr && r.process_group() == v1::PROCESS_GROUP_JOIN &&
        r.process_group_id() == process_->pid())
        group_is_shared_ = true;
    const auto request = child_request::make(q);
    // What is sent to the child is nobody's but its own.
    const unique_fd sent = q.lease ? std::move(q.lease->end_of_child) : unique_fd();
    if (!request) return children_.on_call_failed(std::move(q), request.error());
    if (call_warm(q, *request)) return;
    const auto clean = proof_.check();
    if (!clean) {
        children_.on_call_failed(std::move(q), clean.error());
        if (!passes(clean.error())) fail_unproved(clean.error());
        return;
    }
    if (auto ordered = order_for_call(q, *request, *clean); !ordered)
        children_.on_call_failed(std::move(q), ordered.error());
}

// A warm child may have died where it waited: then the next one is asked. One that is
// still being forked is nearer than another fork behind it.
bool generation::call_warm(queued_spawn& q, const child_request& request) {
    for (int channel = slots_.warm_channel(); channel >= 0; channel = slots_.warm_channel()) {
        if (request.send(channel)) {
            q.is_warm = true;
            slots_.ask_warm(std::move(q), clock::now());
            return true;
        }
        slots_.drop_warm();
    }
    return false;
}

// The request waits in the channel before the child exists, so that it finds it there. Nothing is
// ordered that is not known here, whatever throws.
result<void> generation::order_for_call(queued_spawn& q, const child_request& request,
                                        const fork_facts& facts) {
    auto channel = channels_.take();
    if (!channel) return channel.error();
    if (auto sent = request.send(channel->ours()); !sent) return sent;
    const sequence_number s = slots_.next();
    const int childs = channel->childs();
    proof_.add_passing(channel->childs_inode());
    slots_.order_for_call(std::move(q), clock::now(), std::move(*channel));
    auto ordered = order_fork(s, childs, template_link::request::waits_in_channel, facts);
    if (!ordered) q = std::move(*take_back_order(s));
    return ordered;
}

result<void> generation::order_warm(const fork_facts& facts) {
    auto channel = channels_.make();
    if (!channel) return channel.error();
    const sequence_number s = slots_.next();
    proof_.add_passing(channel->childs_inode());
    slots_.order_warm(std::move(*channel).take_ours(), clock::now());
    auto ordered = order_fork(s, channel->childs(), template_link::request::comes_later, facts);
    if (!ordered) (void)take_back_order(s);
    return ordered;
}

std::optional<queued_spawn> generation::take_back_order(sequence_number s) {
    auto concerned = slots_.failed(s, child_slots::failed_at::fork, clock::now());
    keep_channel();
    return concerned ? std::move(concerned->call) : std::nullopt;
}

result<void> generation::order_fork(sequence_number s, int channel, template_link::request r,
                                    const fork_facts& facts) {
    const int e = link_.order_fork(s, channel, r, facts);
    if (e == 0) return {};
    return ipc::fail(step::fork, e, spec_->name, "the template takes no orders");
}

// That of a child which did not run is not used again.
void generation::keep_channel() {
    if (state_ == generation_state::ready) channels_.prepare();
}

bool generation::refill() {
    if (state_ != generation_state::ready || !link_.is_open() ||
        !slots_.may_order_warm(clock::now()))
        return false;
    const auto clean = proof_.check();
    if (!clean) {
        if (!passes(clean.error())) fail_unproved(clean.error());
        return false;
    }
    return bool(order_warm(*clean));
}

void generation::kill_child(const child_slots::withdrawn& w) {
    if (w.process)
        w.process.signal(SIGKILL);
    else if (process_ != nullptr)
        link_.order_kill(w.sequence);
}

std::vector<queued_spawn> generation::take_back(session_id session, request_id request) {
    std::vector<queued_spawn> taken;
    for (child_slots::withdrawn& w : slots_.withdraw(session, request)) {
        kill_child(w);
        taken.push_back(std::move(*w.call));
    }
    keep_channel();
    return taken;
}

void generation::forget_child(child_id child) {
    if (slots_.forget(child)) end_if_drained();
}

// ---- its end ---------------------------------------------------------------

void generation::close_pool() {
    slots_.close_pool();
    children_.on_closed(id_);
}

void generation::end_as(generation_state s, const failure& why) {
    if (state_ == generation_state::failed || state_ == generation_state::refused) return;
    const bool has_served = state_ != generation_state::starting;
    state_ = s;
    end_reason_ = why;
    close_pool();
    // What its initialization started goes with it. Later its children live on: the
    // forkserver becomes their parent.
    if (!has_served)
        kill_process();
    else if (process_ != nullptr)
        process_->signal(SIGKILL);
    owner_.on_state(*this, why);
}

void generation::fail_unproved(const failure& why) {
    end_as(why.step == step::clean ? generation_state::refused : generation_state::failed, why);
}

bool generation::leads_group() const noexcept {
    return !spec_->early && !group_is_shared_ &&
           spec_->process.process_group() != v1::PROCESS_GROUP_JOIN;
}

// With what is of its group: what its initialization started, and children that have not
// come to the step of their own group.
void generation::kill_process() {
    if (process_ == nullptr) return;
    if (leads_group()) process_->signal_group(SIGKILL);
    process_->signal(SIGKILL);
}

void generation::retire() {
    if (state_ == generation_state::failed || state_ == generation_state::refused) return;
    state_ = generation_state::draining;
    close_pool();
    end_if_drained();
}

void generation::end_if_drained() {
    if (state_ == generation_state::draining && !slots_.busy()) kill_process();
}

void generation::kill() {
    close_pool();
    kill_process();
    slots_.kill_unstarted();
}

// The template has ended: nobody will tell of a child that has not told that it runs. One
// that was refused took with it the calls whose forks it had not come to.
void generation::fail_unstarted() {
    failure why = ipc::fail(step::fork, EPIPE, spec_->name,
                            "the template ended before the call's child ran; nothing of the "
                            "entry was done");
    if (state_ == generation_state::refused) why = end_reason_;
    for (queued_spawn& q : slots_.drop_unstarted()) children_.on_call_failed(std::move(q), why);
}

void generation::process_ended(int wait_status) {
    // What has thrown is done again, from where it was.
    if (process_ != nullptr && slots_.unstarted() != 0 && leads_group())
        group_ = launcher_.own_process({process_->pid(), ipc::dup_fd(process_->pidfd())});
    process_ = nullptr;
    // What it told before: statuses among it.
    messages_.drain();
    link_.drain_all();
    const std::vector<child_id> left = slots_.running_children();
    close_pool();
    const std::string how = "it " + ipc::ended_how(wait_status);
    if (state_ == generation_state::starting)
        fail(ipc::fail(step::template_start, 0, spec_->name, how + " before it was ready"));
    else if (state_ == generation_state::ready)
        fail(ipc::fail(step::fork, 0, spec_->name, how));
    for (const child_id child : left) children_.on_adopted(child);
    if (!link_.is_open()) fail_unstarted();
    owner_.on_change(*this);
}

void generation::sweep(clock::time_point now) {
    if (state_ == generation_state::starting && started_ + spec_->start_timeout <= now)
        return fail(ipc::fail(step::template_start, ETIMEDOUT, spec_->name,
                              "its initialization took longer than " +
                                  std::to_string(spec_->start_timeout.count()) + " ms"));
    const auto closed = link_.closed_since();
    if (process_ != nullptr && closed && *closed + k_to_end <= now)
        return fail(ipc::fail(step::fork, EPIPE, spec_->name, "it has closed its control socket"));
    std::vector<child_slots::withdrawn> late = slots_.withdraw_late(now);
    for (const child_slots::withdrawn& w : late) {
        kill_child(w);
        if (process_ != nullptr) continue;
        if (!w.process) group_.signal_group(SIGKILL);
        slots_.drop(w.sequence);
    }
    std::erase_if(late, [](const auto& w) { return !w.call; });
    for (child_slots::withdrawn& w : late)
        children_.on_call_failed(
            std::move(*w.call),
            ipc::fail(step::child_start, ETIMEDOUT, spec_->name,
                      "its child did not take the request within " +
                          std::to_string(spec_->call_timeout.count()) + " ms and was killed"));
    if (late.empty()) return;
    keep_channel();
    owner_.on_change(*this);
}

bool generation::has_deadlines() const noexcept {
    return state_ == generation_state::starting || slots_.unstarted() != 0 ||
           (process_ != nullptr && !link_.is_open()) ||
           (state_ == generation_state::ready && slots_.lacks_warm());
}

void generation::to_wire(v1::GenerationInfo& out) const {
    out.set_generation(number_);
    out.set_state(wire_state(state_));
    const auto age = std::chrono::nanoseconds(clock::now() - started_);
    out.set_age_ns(static_cast<std::uint64_t>(age.count()));
    out.set_initialization_ns(initialization_ns_);
    if (process_ != nullptr) {
        out.set_pid(process_->pid());
        if (const auto threads = proof_.threads())
            out.set_threads(static_cast<std::uint32_t>(*threads));
    }
    out.set_leased(children_.leased(id_));
    out.set_children(slots_.running() - std::min(slots_.running(), children_.leased(id_)));
    for (const pid_t pid : slots_.parked_pids()) out.add_warm_pids(pid);
    for (const int fd : proof_.declared()) out.add_declared_descriptors(fd);
    out.set_unclean(proof_.unclean());
    out.set_stderr_tail(messages_.text());
}

}  // namespace cleanfork::daemon
