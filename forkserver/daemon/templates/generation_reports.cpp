// What a template and its children tell; see generation.hpp.
#include <unistd.h>

#include <csignal>

#include "forkserver/daemon/templates/generation.hpp"
#include "ipc/audit/audit.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::size_t k_tail = 4096;
// When a warm child could not be had: the next one is not tried at once, and again.
constexpr std::chrono::milliseconds k_refill_pause{100};

}  // namespace

void generation::read_control() {
    control_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                        [this, here = here_](boost::system::error_code ec) {
                            if (ec || !*here) return;
                            if (drain_control()) return read_control();
                            control_open_ = false;
                            closed_ = clock::now();
                            // It ends, as good as always: how is known in a moment.
                            if (alive_) return owner_.on_change(*this);
                            fail_unstarted();
                            owner_.on_change(*this);
                        });
}

bool generation::drain_control() {
    for (;;) {
        ipc::received packet = receiver_.receive(control_.native_handle());
        if (packet.status == ipc::receive_status::would_block) return true;
        if (packet.status == ipc::receive_status::closed) return false;
        if (packet.status != ipc::receive_status::packet) {
            // Out of descriptors, most likely: the report is lost, its child's end is not.
            if (packet.status == ipc::receive_status::malformed) continue;
            return false;
        }
        auto m = ipc::decode_template_message(std::move(packet));
        if (m) on_message(std::move(*m));
    }
}

void generation::on_message(ipc::decoded<v1::TemplateMessage>&& m) {
    switch (m.message.body_case()) {
        case v1::TemplateMessage::kReady: return on_ready(m.message.ready());
        case v1::TemplateMessage::kFailed:
            drain_messages();
            return fail(ipc::from_wire(m.message.failed()));
        case v1::TemplateMessage::kParked: return on_parked(m.message.parked(), m.descriptors);
        case v1::TemplateMessage::kStarted:
            return on_child_started(m.message.started(), m.descriptors);
        case v1::TemplateMessage::kChildFailed: return on_child_failed(m.message.child_failed());
        case v1::TemplateMessage::kEnded: return on_child_ended(m.message.ended());
        default: return;
    }
}

void generation::on_ready(const v1::TemplateReady& r) {
    if (state_ != state::starting) return;
    declared_ = spec_->allowed_descriptors;
    declared_.insert(declared_.end(), r.own_descriptors().begin(), r.own_descriptors().end());
    initialization_ns_ = r.initialization_ns();
    auto seen = judge();
    if (!seen) return fail(seen.error());
    unclean_ = std::move(*seen);
    if (!unclean_.empty() && !spec_->tolerate_unclean)
        return fail(ipc::fail(step::clean, 0, spec_->name, unclean_), state::refused);
    state_ = state::ready;
    ready_since_ = clock::now();
    owner_.on_state(*this, {});
}

// What is unclean in it; empty: nothing.
result<std::string> generation::judge() {
    // In a chroot or a sandbox. What nobody can look at is not proved clean.
    if (::access("/proc/self/status", F_OK) != 0)
        return std::string("no /proc to see its threads and descriptors in");
    auto proof = ipc::clean_proof::open(pid_);
    if (!proof) return proof.error();
    proof_.emplace(std::move(*proof));
    ipc::audit_options options;
    options.allowed_descriptors = declared_;
    auto report = ipc::audit(pid_, options);
    if (!report) return report.error();
    return report->safe() ? std::string() : ipc::summary(*report);
}

void generation::on_parked(const v1::ChildParked& p, std::vector<unique_fd>& fds) {
    const auto at = slots_.find(sequence_number(p.sequence()));
    if (at == slots_.end() || fds.size() != 1) return;
    slot& s = at->second;
    s.process = launcher_.own_process({p.pid(), std::move(fds.front())});
    if (s.at == slot::stage::ordered) {
        --unstarted_;
        s.at = slot::stage::parked;
    } else if (s.at == slot::stage::unwanted) {
        s.process.signal(SIGKILL);
    }
    owner_.on_change(*this);
}

void generation::on_child_started(const v1::ChildStarted& started, std::vector<unique_fd>& fds) {
    const auto at = slots_.find(sequence_number(started.sequence()));
    if (at == slots_.end()) {
        if (!fds.empty()) ipc::pidfd_signal(fds.front().get(), SIGKILL);
        return;
    }
    slot& s = at->second;
    if (!fds.empty()) s.process = {started.pid(), std::move(fds.front())};
    if (!s.call) {
        s.process.signal(SIGKILL);
        return;
    }
    --unstarted_;
    s.at = slot::stage::running;
    queued_spawn q = std::move(*s.call);
    s.call.reset();
    s.child = owner_.on_started(*this, std::move(q), std::move(s.process));
    if (!s.child)
        s.at = slot::stage::unwanted;
    else if (!alive_)
        owner_.on_adopted(s.child);
    owner_.on_change(*this);
}

void generation::on_child_failed(const v1::ChildFailed& f) {
    const auto at = slots_.find(sequence_number(f.sequence()));
    if (at == slots_.end()) return;
    slot& s = at->second;
    if (s.waits()) --unstarted_;
    if (s.warm) {
        --warm_;
        std::erase(warm_children_, sequence_number(f.sequence()));
        refill_from_ = clock::now() + k_refill_pause;
    }
    s.warm = false;
    s.channel.reset();
    std::optional<queued_spawn> q = std::move(s.call);
    s.call.reset();
    // When the fork itself failed, there is nobody whose end would be told.
    const failure why = ipc::from_wire(f.failure());
    s.at = slot::stage::unwanted;
    if (why.step == step::fork) slots_.erase(at);
    if (q) owner_.on_call_failed(*this, std::move(*q), why);
    owner_.on_change(*this);
}

void generation::on_child_ended(const v1::ChildEnded& e) {
    const auto at = slots_.find(sequence_number(e.sequence()));
    if (at == slots_.end()) return;
    slot s = std::move(at->second);
    slots_.erase(at);
    if (s.waits()) --unstarted_;
    if (s.warm) {
        --warm_;
        std::erase(warm_children_, sequence_number(e.sequence()));
        if (s.at == slot::stage::ordered) refill_from_ = clock::now() + k_refill_pause;
    }
    if (s.call) {
        owner_.on_call_failed(
            *this, std::move(*s.call),
            ipc::fail(step::child_start, 0, spec_->name,
                      "its child " + ipc::ended_how(e.wait_status()) + " before it ran the entry"));
    } else if (s.child) {
        owner_.on_ended(s.child, e.wait_status(), e.usage(), e.error());
    }
    end_if_drained();
    owner_.on_change(*this);
}

void generation::read_messages() {
    messages_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                         [this, here = here_](boost::system::error_code ec) {
                             if (ec || !*here) return;
                             if (drain_messages()) read_messages();
                         });
}

// False at its end. Some at a time: a template that writes without end must not
// keep the forkserver from everybody.
bool generation::drain_messages() {
    if (!messages_.is_open()) return false;
    char part[4096];
    for (int turn = 0; turn < 16; ++turn) {
        const ssize_t n =
            ipc::retry([&] { return ::read(messages_.native_handle(), part, sizeof part); });
        if (n < 0 && errno == EAGAIN) return true;
        if (n <= 0) {
            boost::system::error_code ignored;
            messages_.close(ignored);
            return false;
        }
        tail_.append(part, static_cast<std::size_t>(n));
        if (tail_.size() > k_tail) tail_.erase(0, tail_.size() - k_tail);
    }
    return true;
}

}  // namespace cleanfork::daemon
