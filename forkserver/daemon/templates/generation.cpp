#include "forkserver/daemon/templates/generation.hpp"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "ipc/base/fd.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::daemon {

namespace {

// As many orders as the control socket holds without a thought; the rest waits here.
constexpr std::size_t k_most_unstarted = 64;
// For a template whose control socket is closed: it ends, or it is ended.
constexpr std::chrono::seconds k_to_end{1};

}  // namespace

generation::generation(boost::asio::io_context& io, const spawn::launcher& launcher,
                       generation_owner& owner, std::shared_ptr<const template_spec> spec,
                       generation_id id, std::uint32_t number, unique_fd control,
                       unique_fd messages)
    : launcher_(launcher),
      owner_(owner),
      spec_(std::move(spec)),
      id_(id),
      number_(number),
      control_(io, launcher.own_descriptor(std::move(control)).release()),
      messages_(io) {
    if (messages) messages_.assign(launcher.own_descriptor(std::move(messages)).release());
    read_control();
    if (messages_.is_open()) read_messages();
}

generation::~generation() { *here_ = false; }

void generation::process_began(child_id child, int pid, int pidfd) {
    process_ = child;
    pid_ = pid;
    pidfd_ = pidfd;
    alive_ = true;
    // Of a derived one: nobody waits for it any more.
    if (state_ != state::starting) ipc::pidfd_signal(pidfd_, SIGKILL);
}

// ---- calls -----------------------------------------------------------------

bool generation::room() const noexcept {
    return state_ == state::ready && control_open_ &&
           (unstarted_ < k_most_unstarted || !warm_children_.empty());
}

void generation::call(queued_spawn q) {
    group_is_shared_ = group_is_shared_ || (q.request->process_group() == v1::PROCESS_GROUP_JOIN &&
                                            q.request->process_group_id() == pid_);
    if (call_warm(q)) return;
    std::optional<queued_spawn> call(std::move(q));
    if (auto clean = prove(); !clean) {
        const failure why = clean.error();
        owner_.on_call_failed(*this, std::move(*call), why);
        return fail(why, why.step == step::clean ? state::refused : state::failed);
    }
    if (auto ordered = order_fork(false, call); !ordered)
        owner_.on_call_failed(*this, std::move(*call), ordered.error());
}

// A warm child may have died where it waited: then the next one is asked. One that is
// still being forked is nearer than another fork behind it.
bool generation::call_warm(queued_spawn& q) {
    while (!warm_children_.empty()) {
        const sequence_number sequence = warm_children_.front();
        warm_children_.pop_front();
        const auto at = slots_.find(sequence);
        if (at == slots_.end() || !at->second.warm || at->second.at == slot::stage::unwanted)
            continue;
        slot& s = at->second;
        if (s.at == slot::stage::ordered) --unstarted_;
        --warm_;
        s.warm = false;
        const bool sent = bool(send_request(s.channel.get(), q));
        s.channel.reset();
        if (!sent) {
            s.at = slot::stage::unwanted;
            continue;
        }
        s.call = std::move(q);
        s.at = slot::stage::asked;
        s.deadline = clock::now() + spec_->call_timeout;
        ++unstarted_;
        return true;
    }
    return false;
}

// The state of the template is looked at now: nothing but its loop runs in it
// between this and the fork, unless it is at the fork before.
result<void> generation::prove() const {
    if (spec_->tolerate_unclean) return {};
    auto report = proof_->check(declared_, channels_);
    if (!report)
        return ipc::fail(step::fork, report.error().error_number, spec_->name,
                         "the template could not be looked at: " + report.error().message());
    // Its children end at any time; the loop is about to read that.
    std::erase_if(report->findings, [](const ipc::finding& f) {
        return f.kind == ipc::hazard::pending_signal && f.number == SIGCHLD;
    });
    if (report->safe()) return {};
    return ipc::fail(step::clean, 0, spec_->name, ipc::summary(*report));
}

// The request waits in the channel before the child exists, so that it finds it there.
result<void> generation::order_fork(bool warm, std::optional<queued_spawn>& q) {
    auto pair = ipc::seqpacket_pair();
    if (!pair) return pair.error();
    if (q)
        if (auto sent = send_request(pair->first.get(), *q); !sent) return sent;
    const templates::order o{templates::order_kind::fork, warm ? 1U : 0U, next_sequence_.value()};
    const int channel = pair->second.get();
    struct stat st {};
    if (::fstat(channel, &st) == 0)
        channels_[next_sequence_.value() % channels_.size()] = st.st_ino;
    const auto status = ipc::send_packet(
        control_.native_handle(), {reinterpret_cast<const char*>(&o), sizeof o}, {&channel, 1});
    if (status != ipc::send_status::sent)
        return ipc::fail(step::fork, status == ipc::send_status::closed ? EPIPE : errno,
                         spec_->name, "the template takes no orders");
    slot s;
    s.warm = warm;
    s.call = std::move(q);
    s.deadline = clock::now() + spec_->call_timeout;
    if (warm) {
        s.channel = launcher_.own_descriptor(std::move(pair->first));
        ++warm_;
        warm_children_.push_back(next_sequence_);
    }
    ++unstarted_;
    slots_.emplace_hint(slots_.end(), next_sequence_.take_next(), std::move(s));
    return {};
}

result<void> generation::send_request(int channel, queued_spawn& q) {
    v1::ChildMessage m;
    v1::ChildRequest& run = *m.mutable_run();
    run.set_base(q.base->wire);
    run.set_become_template(q.becomes ? 1 : 0);
    std::vector<int> fds;
    fds.reserve(q.descriptors->size() + 1);
    for (const unique_fd& fd : *q.descriptors) fds.push_back(fd.get());
    for (const int purpose : q.purposes)
        m.add_descriptors(static_cast<v1::DescriptorPurpose>(purpose));
    if (q.base->cwd) {
        fds.push_back(q.base->cwd.get());
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CWD);
        run.set_base_cwd_descriptor(static_cast<std::uint32_t>(fds.size()));
    }
    run.set_allocated_request(q.request.get());
    const auto encoded = ipc::encode(m);
    (void)run.release_request();
    if (!encoded) return encoded.error();
    switch (ipc::send(channel, *encoded, fds)) {
        case ipc::send_status::sent: return {};
        case ipc::send_status::closed: return ipc::fail(step::child_start, EPIPE, "channel");
        case ipc::send_status::would_block:
        case ipc::send_status::failed: break;
    }
    return ipc::fail(step::prepare, errno, "channel", "the request could not be sent to its child");
}

bool generation::refill() {
    if (state_ != state::ready || !control_open_ || warm_ >= spec_->warm ||
        unstarted_ >= k_most_unstarted || clock::now() < refill_from_)
        return false;
    if (auto clean = prove(); !clean) {
        const failure why = clean.error();
        fail(why, why.step == step::clean ? state::refused : state::failed);
        return false;
    }
    std::optional<queued_spawn> nothing;
    return bool(order_fork(true, nothing));
}

// Only the template can signal a child that has not told its pidfd yet.
void generation::order_kill(sequence_number sequence) {
    const templates::order o{templates::order_kind::kill, 0, sequence.value()};
    if (alive_ && control_open_)
        (void)ipc::send_packet(control_.native_handle(),
                               {reinterpret_cast<const char*>(&o), sizeof o}, {});
}

std::vector<queued_spawn> generation::remove(session_id session, request_id request) {
    std::vector<queued_spawn> taken;
    for (auto& [sequence, s] : slots_) {
        if (!s.call || s.call->becomes) continue;
        if (session && s.call->session != session) continue;
        if (request && s.call->request_id != request) continue;
        taken.push_back(std::move(*s.call));
        s.call.reset();
        s.at = slot::stage::unwanted;
        --unstarted_;
        if (s.process)
            s.process.signal(SIGKILL);
        else
            order_kill(sequence);
    }
    return taken;
}

void generation::forget_child(child_id child) {
    for (auto at = slots_.begin(); at != slots_.end(); ++at)
        if (at->second.child == child && child) {
            slots_.erase(at);
            return end_if_drained();
        }
}

// ---- its end ---------------------------------------------------------------

void generation::fail(const failure& why, state s) {
    if (state_ == state::failed || state_ == state::refused) return;
    const bool has_served = state_ != state::starting;
    state_ = s;
    close_warm();
    // What its initialization started goes with it. Later its children live on: the
    // forkserver becomes their parent.
    if (alive_ && !has_served)
        kill_process();
    else if (alive_)
        ipc::pidfd_signal(pidfd_, SIGKILL);
    owner_.on_state(*this, why);
}

bool generation::leads_group() const noexcept {
    return !spec_->early && !group_is_shared_ &&
           spec_->process.process_group() != v1::PROCESS_GROUP_JOIN;
}

// With what is of its group: what its initialization started, and children that have not
// come to the step of their own group.
void generation::kill_process() {
    if (!alive_) return;
    if (leads_group()) ::kill(-pid_, SIGKILL);
    ipc::pidfd_signal(pidfd_, SIGKILL);
}

void generation::close_warm() {
    warm_children_.clear();
    for (auto& [sequence, s] : slots_)
        if (s.warm) s.channel.reset();  // it ends by itself
}

void generation::retire() {
    if (state_ == state::failed || state_ == state::refused) return;
    state_ = state::draining;
    close_warm();
    end_if_drained();
}

void generation::end_if_drained() {
    if (state_ != state::draining || !alive_) return;
    const bool busy = std::any_of(slots_.begin(), slots_.end(), [](const auto& at) {
        const slot& s = at.second;
        return s.call.has_value() || (s.at == slot::stage::running);
    });
    if (!busy) kill_process();
}

void generation::kill() {
    close_warm();
    kill_process();
    for (auto& [sequence, s] : slots_)
        if (s.at != slot::stage::running) s.process.signal(SIGKILL);
}

void generation::fail_unstarted() {
    const failure why = ipc::fail(step::fork, EPIPE, spec_->name,
                                  "the template ended before the call's child ran; nothing of the "
                                  "entry was done");
    std::vector<queued_spawn> calls;
    for (auto at = slots_.begin(); at != slots_.end();) {
        slot& s = at->second;
        if (s.waits()) --unstarted_;
        if (s.call) calls.push_back(std::move(*s.call));
        if (s.warm) --warm_;
        at = s.at == slot::stage::running ? std::next(at) : slots_.erase(at);
    }
    for (queued_spawn& q : calls) owner_.on_call_failed(*this, std::move(q), why);
}

void generation::process_ended(int wait_status) {
    alive_ = false;
    if (unstarted_ != 0 && leads_group()) group_ = launcher_.own_descriptor(ipc::dup_fd(pidfd_));
    pidfd_ = -1;
    // What it told before: statuses among it.
    drain_messages();
    if (control_open_ && !drain_control()) control_open_ = false;
    std::vector<child_id> orphans;
    for (const auto& [sequence, s] : slots_)
        if (s.at == slot::stage::running) orphans.push_back(s.child);
    close_warm();
    const std::string how = "it " + ipc::ended_how(wait_status);
    if (state_ == state::starting)
        fail(ipc::fail(step::template_start, 0, spec_->name, how + " before it was ready"));
    else if (state_ == state::ready)
        fail(ipc::fail(step::fork, 0, spec_->name, how));
    for (const child_id child : orphans) owner_.on_adopted(child);
    if (!control_open_) fail_unstarted();
    owner_.on_change(*this);
}

void generation::sweep(clock::time_point now) {
    if (state_ == state::starting && started_ + spec_->start_timeout <= now)
        return fail(ipc::fail(step::template_start, ETIMEDOUT, spec_->name,
                              "its initialization took longer than " +
                                  std::to_string(spec_->start_timeout.count()) + " ms"));
    if (alive_ && !control_open_ && closed_ + k_to_end <= now)
        return fail(ipc::fail(step::fork, EPIPE, spec_->name, "it has closed its control socket"));
    std::vector<queued_spawn> late;
    for (auto at = slots_.begin(); at != slots_.end();) {
        slot& s = at->second;
        if (!s.waits() || s.deadline > now) {
            ++at;
            continue;
        }
        if (s.process)
            s.process.signal(SIGKILL);
        else if (alive_)
            order_kill(at->first);
        else if (group_)
            ipc::pidfd_signal_group(group_.get(), SIGKILL);
        if (s.call) late.push_back(std::move(*s.call));
        if (s.warm) --warm_;
        --unstarted_;
        s.call.reset();
        s.channel.reset();
        s.warm = false;
        s.at = slot::stage::unwanted;
        at = alive_ ? std::next(at) : slots_.erase(at);
    }
    for (queued_spawn& q : late)
        owner_.on_call_failed(
            *this, std::move(q),
            ipc::fail(step::child_start, ETIMEDOUT, spec_->name,
                      "its child did not take the request within " +
                          std::to_string(spec_->call_timeout.count()) + " ms and was killed"));
    if (!late.empty()) owner_.on_change(*this);
}

bool generation::has_deadlines() const noexcept {
    return state_ == state::starting || unstarted_ != 0 || (alive_ && !control_open_) ||
           (state_ == state::ready && warm_ < spec_->warm);
}

void generation::to_wire(v1::GenerationInfo& out) const {
    static constexpr v1::TemplateState k_states[] = {
        v1::TEMPLATE_STATE_STARTING, v1::TEMPLATE_STATE_READY, v1::TEMPLATE_STATE_REFUSED,
        v1::TEMPLATE_STATE_FAILED, v1::TEMPLATE_STATE_DRAINING};
    out.set_generation(number_);
    out.set_state(k_states[static_cast<int>(state_)]);
    out.set_pid(alive_ ? pid_ : 0);
    const auto age = std::chrono::nanoseconds(clock::now() - started_);
    out.set_age_ns(static_cast<std::uint64_t>(age.count()));
    out.set_initialization_ns(initialization_ns_);
    if (alive_ && proof_)
        if (auto counts = proof_->counts())
            out.set_threads(static_cast<std::uint32_t>(counts->threads));
    for (const auto& [sequence, s] : slots_) {
        if (s.at == slot::stage::running) out.set_children(out.children() + 1);
        if (s.at == slot::stage::parked) out.add_warm_pids(s.process.pid());
    }
    for (const int fd : declared_) out.add_declared_descriptors(fd);
    out.set_unclean(unclean_);
    out.set_stderr_tail(tail_);
}

}  // namespace cleanfork::daemon
