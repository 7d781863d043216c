// The templates by name: their generations, their reloads, and the calls for them.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cleanfork/failure.hpp>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/templates/generation.hpp"
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

class template_table final : private generation_owner {
public:
    template_table(boost::asio::io_context& io, spawn::launcher& launcher, child_table& children,
                   logger& log, template_table_owner& owner);

    // Starts a generation from the request. `reply` is answered when it has settled,
    // unless `wait` is false: then at once.
    result<void> add(v1::AddTemplateRequest& r, std::vector<int> purposes,
                     std::vector<unique_fd> descriptors,
                     std::shared_ptr<const spawn::session_base> base, session_id session,
                     request_id request);
    // A template that was forked early from the program that began this forkserver.
    result<void> add_early(const std::string& name, int pid, unique_fd control);
    result<void> reload(const std::string& name, session_id session, request_id request, bool wait);
    result<void> remove(const std::string& name);
    // Of one name, or of all when it is empty.
    result<void> list(const std::string& name, v1::ListTemplatesReply& out) const;

    void call(queued_spawn q);
    // Calls of `session` (and `request`, unless 0) that have not begun.
    std::vector<queued_spawn> take_back(session_id session, request_id request);
    void session_is_over(session_id session);

    // Told by the table of children: the end of a template's process ...
    void process_ended(generation_id generation, int wait_status);
    // ... and of a child which the forkserver reaped itself.
    void child_ended(generation_id generation, child_id child);

    // Takes no more calls, and kills every template: when the children have ended.
    void shut_down(const failure& why);
    void kill_all();

private:
    struct entry {
        std::shared_ptr<const template_spec> spec;
        std::unique_ptr<generation> current;  // calls go here
        std::unique_ptr<generation> next;     // starting
        std::vector<std::unique_ptr<generation>> old;
        std::uint32_t number = 0;
        failure last_error;
        std::string last_messages;
        generation::state state = generation::state::starting;  // without a current one
        std::deque<queued_spawn> waiting;
        std::vector<std::pair<session_id, v1::ServerMessage>> replies;  // session, what for
        std::uint64_t restarts = 0;
        std::uint64_t calls_total = 0;
        std::chrono::milliseconds delay{};
        generation::clock::time_point restart_at{};
        bool was_ready = false;
    };

    // generation_owner
    void on_state(generation& g, const failure& why) override;
    child_id on_started(generation& g, queued_spawn q, ipc::process_ref process) override;
    void on_call_failed(generation& g, queued_spawn q, const failure& why) override;
    void on_ended(child_id child, int wait_status, v1::Usage usage, std::string error) override;
    void on_adopted(child_id child) override;
    void on_change(generation& g) override;

    [[nodiscard]] failure unknown(const std::string& name) const;
    void start(entry& e);
    result<void> start_process(entry& e);
    result<void> launch(generation& g, queued_spawn q);
    void settled(entry& e, const failure& why);
    void ready(entry& e);
    void broken(entry& e, generation& g, const failure& why);
    void schedule_restart(entry& e);
    void fail_waiting(entry& e, const failure& why);
    void serve_waiting(entry& e);
    void call_now(entry& e, queued_spawn q);
    void call_refused(queued_spawn q, const failure& why);
    void info(const entry& e, v1::TemplateInfo& out) const;
    entry* find(const generation& g);
    generation* find(generation_id id);
    // Those that are leaving, too.
    void each(const std::function<void(generation&)>& f);

    // Chores that must not run inside a generation's own call: dropping it, refills.
    void later();
    void chores();
    void arm_sweep();
    void arm_refill(std::chrono::milliseconds pause);

    boost::asio::io_context& io_;
    spawn::launcher& launcher_;
    child_table& children_;
    logger& log_;
    template_table_owner& owner_;
    std::map<std::string, entry> entries_;
    // Of removed templates: they drain.
    std::vector<std::unique_ptr<generation>> leaving_;
    generation_id next_id_{1};
    boost::asio::steady_timer sweep_;
    boost::asio::steady_timer refill_;
    bool sweeping_ = false;
    bool chores_due_ = false;
    std::optional<generation::clock::time_point> refill_due_;
    bool child_has_ended_ = false;  // since pools were looked at
    bool closed_ = false;
};

}  // namespace cleanfork::daemon
