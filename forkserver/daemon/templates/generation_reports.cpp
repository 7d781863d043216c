// What a template and its children tell, and what of it is believed.
#include <csignal>
#include <string>

#include "forkserver/daemon/templates/generation.hpp"
#include "forkserver/daemon/templates/report_check.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/usage.hpp"

namespace cleanfork::daemon {

void generation::dispose(std::vector<unique_fd> fds) noexcept {
    if (!fds.empty()) launcher_.dispose(std::move(fds));
}

void generation::on_report(report& m) {
    if (m.event) return on_event(m);
    if (m.message.has_child_failed()) return on_child_failed(m);
    // Of a derived one the process may not be known yet.
    const bool fails_early = pid_ == 0 && m.message.has_failed();
    if (!fails_early && !is_of_template(m))
        return refuse(m, ipc::fail(step::fork, EPERM, "report", "the template did not send it"));
    switch (m.message.body_case()) {
        case v1::TemplateMessage::kReady: return on_ready(m.message.ready());
        case v1::TemplateMessage::kFailed:
            messages_.drain();
            return fail(ipc::from_wire(m.message.failed()));
        default: return;
    }
}

void generation::on_event(report& m) {
    switch (m.event->kind) {
        case templates::report_kind::parked: return on_parked(m);
        case templates::report_kind::started: return on_child_started(m);
        case templates::report_kind::ended:
        case templates::report_kind::unused:
            if (is_of_template(m)) return on_child_ended(m);
    }
    refuse(m, ipc::fail(step::fork, EPERM, "report", "the template did not send it"));
}

bool generation::is_of_template(const report& m) const {
    return pid_ != 0 && m.sender && m.sender->pid == pid_;
}

// Of somebody else than the template it is nothing but noise. A template that tells what is not
// true is not to be had any more.
void generation::refuse(const report& m, const failure& why) {
    ++refused_reports_;
    if ((refused_reports_ & (refused_reports_ - 1)) == 0)
        log_.warning("report_refused", {{"template", spec_->name},
                                        {"sender", std::int64_t{m.sender ? m.sender->pid : 0}},
                                        {"so_far", refused_reports_},
                                        {"why", why.message()}});
    if (is_of_template(m)) fail(why);
}

result<ipc::process_ref> generation::process_of(sequence_number s, report& m) {
    const ipc::packet_sender sender = m.sender.value_or(ipc::packet_sender{});
    if (slots_.is_of_another(s, sender.pid))
        return ipc::fail(step::child_start, EPERM, "report", "its sender is another call's child");
    if (const ipc::process_ref* parked = slots_.process_of(s)) {
        if (parked->pid() == sender.pid) return ipc::process_ref();
        return ipc::fail(step::child_start, EPERM, "report", "another than the child has sent it");
    }
    auto told = process_of_sender(sender, m.descriptors, m.cut, pid_,
                                  process_ == nullptr ? -1 : process_->pidfd());
    if (!told) return told;
    return launcher_.own_process(std::move(*told));
}

// When the report is true (EMFILE, say), the child cannot be taken in and must not run; else it is
// somebody else's, and the child's own is to come.
void generation::refuse_child(sequence_number s, const report& m, const failure& why) {
    if (why.error_number == EPERM) return refuse(m, why);
    auto concerned = slots_.failed(s, child_slots::failed_at::start, clock::now());
    keep_channel();
    link_.order_kill(s);
    if (concerned && concerned->call) children_.on_call_failed(std::move(*concerned->call), why);
    owner_.on_change(*this);
}

// One that has ended meanwhile is not looked at: how it ended is about to be told.
void generation::on_ready(const v1::TemplateReady& r) {
    if (state_ != generation_state::starting || process_ == nullptr) return;
    if (r.protocol() != spawn::k_template_protocol)
        return fail(ipc::fail(
            step::template_start, EPROTO, spec_->name,
            "its template library speaks protocol " + std::to_string(r.protocol()) +
                ", this forkserver " + std::to_string(spawn::k_template_protocol) +
                ": build the template and run the forkserver of one version of cleanfork"));
    initialization_ns_ = r.initialization_ns();
    if (auto clean = proof_.begin(process_->pid(), r); !clean) return fail_unproved(clean.error());
    state_ = generation_state::ready;
    keep_channel();
    ready_since_ = clock::now();
    owner_.on_state(*this, {});
}

void generation::on_parked(report& m) {
    const sequence_number s(m.event->sequence);
    if (!slots_.knows(s)) return;
    auto process = process_of(s, m);
    if (!process) return refuse_child(s, m, process.error());
    if (!*process) return;  // it has told that before
    const ipc::process_ref unwanted = slots_.parked(s, std::move(*process));
    unwanted.signal(SIGKILL);
    owner_.on_change(*this);
}

void generation::on_child_started(report& m) {
    const sequence_number s(m.event->sequence);
    if (slots_.child_of(s)) return;  // it has told that before
    auto process = process_of(s, m);
    if (!process) return refuse_child(s, m, process.error());
    child_slots::start begun = slots_.started(s, std::move(*process));
    if (!begun.call) {
        begun.process.signal(SIGKILL);
        return;
    }
    channels_.give_back(std::move(begun.channel));
    const child_id child =
        children_.on_started(id_, std::move(*begun.call), std::move(begun.process));
    slots_.runs_as(s, child);
    if (child && process_ == nullptr) children_.on_adopted(child);
    if (state_ != generation_state::ready) children_.on_closed(id_);
    owner_.on_change(*this);
}

void generation::on_child_failed(const report& m) {
    const v1::ChildFailed& f = m.message.child_failed();
    const sequence_number s(f.sequence());
    failure why = ipc::from_wire(f.failure());
    // There is no child: threads were left in the midst of the fork.
    const bool unclean = why.step == step::clean;
    if (unclean) why.object = spec_->name;
    const auto where = why.step == step::fork || unclean ? child_slots::failed_at::fork
                                                         : child_slots::failed_at::start;
    const ipc::process_ref* parked = slots_.process_of(s);
    const pid_t sender = m.sender ? m.sender->pid : 0;
    const bool is_its_own = where == child_slots::failed_at::start && sender > 0 &&
                            !slots_.is_of_another(s, sender) &&
                            (parked == nullptr || parked->pid() == sender);
    if (!is_its_own && !is_of_template(m))
        return refuse(m, ipc::fail(step::fork, EPERM, "report", "neither child nor template"));
    auto concerned = slots_.failed(s, where, clock::now());
    keep_channel();
    if (!concerned) return;
    if (concerned->call) children_.on_call_failed(std::move(*concerned->call), why);
    if (unclean) return fail_unproved(why);
    owner_.on_change(*this);
}

void generation::on_child_ended(const report& m) {
    const templates::child_event& e = *m.event;
    const sequence_number s(e.sequence);
    child_exit end{.wait_status = e.wait_status,
                   .usage = {},
                   .error = m.error,
                   .is_unused = e.kind == templates::report_kind::unused};
    ipc::to_wire(m.usage, end.usage);
    const child_id running = slots_.child_of(s);
    const ipc::process_ref* known = slots_.process_of(s);
    if ((running && !children_.on_ended(running, std::move(end))) ||
        (known != nullptr && !ipc::pidfd_wait(known->pidfd(), ipc::pidfd_event::ended, 0)))
        return fail(
            ipc::fail(step::fork, EPERM, spec_->name, "it told of the end of a child that lives"));
    auto concerned = slots_.ended(s, clock::now());
    keep_channel();
    if (!concerned) return;
    if (concerned->call)
        children_.on_call_failed(
            std::move(*concerned->call),
            ipc::fail(step::child_start, 0, spec_->name,
                      "its child " + ipc::ended_how(e.wait_status) + " before it ran the entry"));
    end_if_drained();
    owner_.on_change(*this);
}

// The template ends, as good as always: how is known in a moment.
void generation::on_link_closed() {
    if (process_ == nullptr) fail_unstarted();
    owner_.on_change(*this);
}

}  // namespace cleanfork::daemon
