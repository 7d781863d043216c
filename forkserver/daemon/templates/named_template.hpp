// What a client knows by one name: the generations of a template, and the calls for them.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <cleanfork/failure.hpp>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "forkserver/daemon/children/births.hpp"
#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/daemon/templates/backoff.hpp"
#include "forkserver/daemon/templates/generation.hpp"
#include "forkserver/daemon/templates/template_spec.hpp"
#include "forkserver/spawn/launcher.hpp"

namespace cleanfork::daemon {

// What a template tells and asks its owner, besides what its children do.
class named_template_owner : public forked_children_owner {
public:
    virtual generation_id take_generation_id() = 0;
    // Has the template `base` fork the process of a derived one. Fails when there is none of
    // that name; else it is told to the generation.
    virtual result<void> on_derive(const std::string& base, queued_spawn q) = 0;
    // The process of a generation could not begin its program.
    virtual void on_not_begun(generation_id generation, const failure& why) = 0;
    // Answers a request to add or reload.
    virtual void on_settled(session_id session, v1::ServerMessage reply) = 0;
    // A generation may be dropped, or a pool filled: not at once, but soon.
    virtual void on_chores() = 0;
    // has_deadlines() may have become true.
    virtual void on_deadline() = 0;

protected:
    ~named_template_owner() = default;
};

class named_template final : private generation_owner {
public:
    using clock = generation::clock;

    // What templates are made with.
    struct tools {
        event_loop& io;
        spawn::launcher& launcher;
        child_table& children;
        births& begin;
        logger& log;
    };

    named_template(const tools& t, named_template_owner& owner) : tools_(t), owner_(owner) {}
    named_template(const named_template&) = delete;
    named_template& operator=(const named_template&) = delete;

    // Starts a generation from `spec`, or from the one of before; `reply` is answered when it
    // has settled, unless settle() is called before.
    void start(shared_spec spec, session_id session, v1::ServerMessage reply);
    void restart(session_id session, v1::ServerMessage reply);
    // Of one that is ready, or starts: `reply` tells of it, at once or when it has settled.
    // False when it is neither.
    bool join(session_id session, v1::ServerMessage& reply, bool at_once);
    // The generation is a process that exists already.
    result<void> take_early(shared_spec spec, int pid, unique_fd control);
    // Everybody who asked for a generation learns what became of it, or (step::none) how
    // the template is.
    void settle(const failure& why);
    // The name is another's from now on: its calls fail, and it drains.
    void leave(const failure& why);
    // No more calls and restarts.
    void stop(const failure& why);
    void kill();

    void call(queued_spawn q);
    // A leased child has got its call.
    void call_began() noexcept { ++calls_total_; }
    // Where a call would go now; null: it would have to wait.
    [[nodiscard]] const generation* current() const noexcept {
        return current_ && current_->room() ? current_.get() : nullptr;
    }
    // Calls of `session` (none: of any; `request` none: any) that have not begun.
    std::vector<queued_spawn> take_back(session_id session, request_id request);
    void session_is_over(session_id session);

    // Drops generations that are over, and serves calls that wait.
    void clean_up();
    // One more warm child. False when there is nothing to do.
    bool refill();
    // Ends what took longer than it may, and starts what has waited for it.
    void sweep(clock::time_point now);
    [[nodiscard]] bool has_deadlines() const;

    [[nodiscard]] const template_spec& spec() const noexcept { return *spec_; }
    // No generation is left.
    [[nodiscard]] bool over() const noexcept { return !current_ && !next_ && old_.empty(); }
    // Of all of them, the old ones too; null when it is none of these.
    [[nodiscard]] generation* find(generation_id id) const;
    void to_wire(v1::TemplateInfo& out) const;

private:
    struct pending_reply {
        session_id session;
        v1::ServerMessage reply;
    };

    // generation_owner
    void on_state(generation& g, const failure& why) override;
    void on_change(generation& g) override;

    void answer(pending_reply& asked, const failure& why);
    void start_next();
    result<void> start_process();
    result<void> make_next(unique_fd control, unique_fd messages);
    void retire_next();
    void ready();
    void broken(generation& g, const failure& why);
    void schedule_restart();
    void serve_waiting();
    void fail_waiting(const failure& why);
    [[nodiscard]] bool is_old(const generation& g) const noexcept {
        return &g != current_.get() && &g != next_.get();
    }
    // The first for which `is_it` holds; null when there is none.
    template <class Predicate>
    [[nodiscard]] generation* first(Predicate is_it) const;
    [[nodiscard]] std::vector<generation*> generations() const;

    tools tools_;
    named_template_owner& owner_;
    shared_spec spec_;
    std::unique_ptr<generation> current_;  // calls go here
    std::unique_ptr<generation> next_;     // starting
    std::vector<std::unique_ptr<generation>> old_;
    std::uint32_t number_ = 0;  // of the last generation
    failure last_error_;
    std::string last_messages_;
    generation_state ended_as_ = generation_state::failed;  // the last one that could not be had
    std::deque<queued_spawn> waiting_;
    std::vector<pending_reply> replies_;
    backoff backoff_;
    bool was_ready_ = false;
    std::uint64_t restarts_ = 0;
    std::uint64_t calls_total_ = 0;
};

}  // namespace cleanfork::daemon
