// One process of a template: from its start to its end, and the calls its children run.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <chrono>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "forkserver/daemon/children/child.hpp"
#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/daemon/templates/child_request.hpp"
#include "forkserver/daemon/templates/child_slots.hpp"
#include "forkserver/daemon/templates/output_tail.hpp"
#include "forkserver/daemon/templates/template_link.hpp"
#include "forkserver/daemon/templates/template_proof.hpp"
#include "forkserver/daemon/templates/template_spec.hpp"
#include "forkserver/spawn/launcher.hpp"

namespace cleanfork::daemon {

class generation;

// What a generation tells of itself. It may be dropped only from outside these calls.
class generation_owner {
public:
    // It became ready, refused or failed; `why` of the latter two.
    virtual void on_state(generation& g, const failure& why) = 0;
    // There may be room for a call, or nothing left to wait for.
    virtual void on_change(generation& g) = 0;

protected:
    ~generation_owner() = default;
};

// What generations tell of the children they fork.
class forked_children_owner {
public:
    // The child of a call runs; gives the number it is known by from now on, none when
    // nobody wants it any more.
    virtual child_id on_started(generation_id forked_by, queued_spawn q,
                                ipc::process_ref process) = 0;
    virtual void on_call_failed(queued_spawn q, const failure& why) = 0;
    // False when the kernel says that it lives: then it has not ended.
    virtual bool on_ended(child_id child, child_exit end) = 0;
    // The template has ended before its child: the forkserver is its parent now.
    virtual void on_adopted(child_id child) = 0;
    // It takes no more calls: those of its children that wait for one get none.
    virtual void on_closed(generation_id from) = 0;
    // How many of its children wait for a call of their session.
    [[nodiscard]] virtual std::size_t leased(generation_id from) const = 0;

protected:
    ~forked_children_owner() = default;
};

enum class generation_state { starting, ready, refused, failed, draining };

class generation final : private template_link_owner {
public:
    using clock = std::chrono::steady_clock;

    // Which generation of its template this is, and where it is reached: `control` and
    // `messages` (its standard output and error; may be none) are the forkserver's ends.
    struct identity {
        shared_spec spec;
        generation_id id;
        std::uint32_t number = 0;
        unique_fd control, messages;
    };
    // Throws when its descriptors cannot be watched.
    generation(event_loop& io, const spawn::launcher& launcher, logger& log, identity i,
               generation_owner& owner, forked_children_owner& children);
    generation(const generation&) = delete;
    generation& operator=(const generation&) = delete;

    // Its process exists: a child in the table of children, borrowed until process_ended().
    void process_began(const ipc::process_ref& process);
    // It has ended: what it left is drained, its children are given away.
    void process_ended(int wait_status);

    // Starts the call in a warm child, or has one forked. Needs room().
    void call(queued_spawn q);
    [[nodiscard]] bool room() const noexcept;
    // One more warm child, when there are too few and nothing more urgent.
    // False when there is nothing to do.
    bool refill();

    // No more calls; it ends with its last child.
    void retire();
    // Kills the process and what has not begun; for a shutdown.
    void kill();
    // It cannot be had, or not any more.
    void fail(const failure& why) { end_as(generation_state::failed, why); }
    // What was asked for by `session` (none: any; `request` none: anything) and does not run
    // yet. The children are killed; gives the calls back.
    std::vector<queued_spawn> take_back(session_id session, request_id request);
    // The child is known to have ended.
    void forget_child(child_id child);
    // Ends what took longer than it may.
    void sweep(clock::time_point now);
    [[nodiscard]] bool has_deadlines() const noexcept;

    [[nodiscard]] generation_state state() const noexcept { return state_; }
    [[nodiscard]] generation_id id() const noexcept { return id_; }
    [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
    [[nodiscard]] const std::string& messages() const noexcept { return messages_.text(); }
    // No process, no child, no call: it may be dropped.
    [[nodiscard]] bool over() const noexcept { return process_ == nullptr && slots_.empty(); }
    [[nodiscard]] clock::time_point ready_since() const noexcept { return ready_since_; }
    void to_wire(v1::GenerationInfo& out) const;

private:
    // template_link_owner
    void on_report(template_report& m) override;
    void dispose(std::vector<unique_fd> fds) noexcept override;
    void on_link_closed() override;

    using report = template_report;
    void on_event(report& m);
    void on_ready(const v1::TemplateReady& r);
    void on_parked(report& m);
    void on_child_started(report& m);
    void on_child_failed(const report& m);
    void on_child_ended(const report& m);
    // What is told is a peer's word: see report_check.hpp.
    [[nodiscard]] bool is_of_template(const report& m) const;
    [[nodiscard]] result<ipc::process_ref> process_of(sequence_number s, report& m);
    void refuse(const report& m, const failure& why);
    void refuse_child(sequence_number s, const report& m, const failure& why);

    bool call_warm(queued_spawn& q, const child_request& request);
    result<void> order_for_call(queued_spawn& q, const child_request& request,
                                const fork_facts& facts);
    result<void> order_warm(const fork_facts& facts);
    result<void> order_fork(sequence_number s, int channel, template_link::request r,
                            const fork_facts& facts);
    // An order that could not be sent; its call, if it is for one.
    std::optional<queued_spawn> take_back_order(sequence_number s);
    void kill_child(const child_slots::withdrawn& w);
    void keep_channel();
    void close_pool();
    [[nodiscard]] bool leads_group() const noexcept;
    void kill_process();
    void end_as(generation_state s, const failure& why);
    void fail_unproved(const failure& why);
    void fail_unstarted();
    void end_if_drained();

    const spawn::launcher& launcher_;
    logger& log_;
    generation_owner& owner_;
    forked_children_owner& children_;
    const shared_spec spec_;
    const generation_id id_;
    const std::uint32_t number_;
    generation_state state_ = generation_state::starting;
    failure end_reason_;                         // of one that failed or was refused
    const ipc::process_ref* process_ = nullptr;  // while it lives
    // Of the process that has ended, for the children it left that have told nothing yet.
    ipc::process_ref group_;
    bool group_is_shared_ = false;
    template_link link_;
    output_tail messages_;
    template_proof proof_;
    call_channels channels_;
    pid_t pid_ = 0;  // of its process, also when that has ended; 0: not known yet
    std::uint64_t refused_reports_ = 0;
    child_slots slots_;
    const clock::time_point started_ = clock::now();
    clock::time_point ready_since_{};
    std::uint64_t initialization_ns_ = 0;
};

}  // namespace cleanfork::daemon
