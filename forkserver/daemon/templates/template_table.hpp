// The templates by name: what clients ask of them, and when they are looked after.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <chrono>
#include <cleanfork/failure.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/daemon/templates/leases.hpp"
#include "forkserver/daemon/templates/named_template.hpp"
#include "forkserver/spawn/launcher.hpp"

namespace cleanfork::daemon {

// What the templates need of the server.
class template_table_owner {
public:
    // The child of a call runs. Answers the call; gives the child's number, none when
    // its session has ended.
    virtual child_id on_call_started(queued_spawn q, generation_id generation,
                                     ipc::process_ref process) = 0;
    virtual void on_call_failed(queued_spawn q, const failure& why) = 0;
    // Answers a request to add or reload.
    virtual void on_template_settled(session_id session, v1::ServerMessage reply) = 0;

protected:
    ~template_table_owner() = default;
};

class template_table final : private named_template_owner {
public:
    template_table(event_loop& io, spawn::launcher& launcher, child_table& children, births& begin,
                   leases& out, logger& log, template_table_owner& owner);

    // Starts a generation from the request. It is answered when that has settled, unless the
    // request says no_wait: then at once.
    result<void> add(v1::AddTemplateRequest& r, std::vector<int> purposes,
                     spawn::shared_descriptors descriptors,
                     std::shared_ptr<const spawn::session_base> base, session_id session,
                     request_id request);
    // A template that was forked early from the program that began this forkserver.
    result<void> add_early(const std::string& name, int pid, unique_fd control);
    // Answered as add().
    result<void> reload(const v1::ReloadTemplateRequest& r, session_id session, request_id request);
    result<void> remove(const std::string& name);
    [[nodiscard]] bool has(const std::string& name) const { return templates_.contains(name); }
    // Of one name, or of all when it is empty.
    result<void> list(const std::string& name, v1::ListTemplatesReply& out) const;

    void call(queued_spawn q);
    // A leased child of that template has got its call.
    void call_began(const std::string& name);
    // Calls of `session` (and `request`, unless none) that have not begun.
    std::vector<queued_spawn> take_back(session_id session, request_id request);
    void session_is_over(session_id session);

    // Told by the table of children: the end of a template's process ...
    void process_ended(generation_id generation, pid_t pid, int wait_status);
    // ... and of a child which the forkserver reaped itself.
    void child_ended(generation_id generation, child_id child);

    // Takes no more calls, and kills every template: when the children have ended.
    void shut_down(const failure& why);
    void kill_all();

private:
    // named_template_owner
    generation_id take_generation_id() override { return next_id_.take_next(); }
    result<void> on_derive(const std::string& base, queued_spawn q) override;
    void on_not_begun(generation_id generation, const failure& why) override;
    void on_settled(session_id session, v1::ServerMessage reply) override;
    void on_chores() override;
    void on_deadline() override;

    // forked_children_owner
    child_id on_started(generation_id forked_by, queued_spawn q, ipc::process_ref process) override;
    void on_call_failed(queued_spawn q, const failure& why) override;
    bool on_ended(child_id child, child_exit end) override;
    void on_adopted(child_id child) override;
    void on_closed(generation_id from) override { leases_.revoke(from); }
    [[nodiscard]] std::size_t leased(generation_id from) const override {
        return leases_.waiting(from);
    }

    [[nodiscard]] result<void> give_lease(const named_template& t, queued_spawn& q);
    [[nodiscard]] failure unknown(const std::string& name) const;
    named_template& named(const std::string& name);
    [[nodiscard]] generation* find(generation_id id) const;
    // Those that are leaving, too.
    [[nodiscard]] std::vector<named_template*> all() const;

    void do_chores();
    void sweep();
    void refill();

    named_template::tools tools_;
    leases& leases_;
    template_table_owner& owner_;
    std::map<std::string, std::unique_ptr<named_template>> templates_;
    std::vector<std::unique_ptr<named_template>> leaving_;  // they drain
    generation_id next_id_{1};
    bounded_timer sweep_;
    bounded_timer refill_;
    bool chores_due_ = false;
    bool child_has_ended_ = false;  // since pools were looked at
    bool closed_ = false;
};

}  // namespace cleanfork::daemon
