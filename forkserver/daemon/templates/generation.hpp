// One process of a template: from its start to its end, and the children it forks.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <chrono>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "forkserver/daemon/sessions/spawn_queue.hpp"
#include "forkserver/spawn/launcher.hpp"
#include "forkserver/template/order.hpp"
#include "ipc/audit/clean_proof.hpp"
#include "ipc/wire/message.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::daemon {

// What a template is made from: kept for its reloads and restarts.
struct template_spec {
    std::string name;
    std::string from;  // of a derived one: the template it is forked from
    v1::SpawnRequest process;
    std::vector<int> purposes;
    spawn::shared_descriptors descriptors;
    std::shared_ptr<const spawn::session_base> base;
    std::size_t warm = 0;
    std::chrono::milliseconds start_timeout{};
    std::chrono::milliseconds call_timeout{};
    std::vector<int> allowed_descriptors;
    bool tolerate_unclean = false;
    session_id owner{};  // none: it stays when the session that added it ends
    bool early = false;  // forked from a running program: it cannot be started again
};

class generation;

// What a generation tells its owner. It may be dropped only from outside these calls.
class generation_owner {
public:
    // It became ready, refused or failed; `why` of the latter two.
    virtual void on_state(generation& g, const failure& why) = 0;
    // The child of a call runs; gives the number it is known by from now on, 0 when
    // nobody wants it any more.
    virtual child_id on_started(generation& g, queued_spawn q, ipc::process_ref process) = 0;
    virtual void on_call_failed(generation& g, queued_spawn q, const failure& why) = 0;
    virtual void on_ended(child_id child, int wait_status, v1::Usage usage, std::string error) = 0;
    // The template has ended before its child: the forkserver is its parent now.
    virtual void on_adopted(child_id child) = 0;
    // There may be room for a call, or nothing left to wait for.
    virtual void on_change(generation& g) = 0;

protected:
    ~generation_owner() = default;
};

class generation {
public:
    using clock = std::chrono::steady_clock;
    enum class state { starting, ready, refused, failed, draining };

    // `control` and `messages` (its standard output and error) are the forkserver's ends.
    generation(boost::asio::io_context& io, const spawn::launcher& launcher,
               generation_owner& owner, std::shared_ptr<const template_spec> spec, generation_id id,
               std::uint32_t number, unique_fd control, unique_fd messages);
    generation(const generation&) = delete;
    generation& operator=(const generation&) = delete;
    ~generation();

    // Its process exists; `pidfd` is borrowed.
    void process_began(child_id child, int pid, int pidfd);
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
    // What was asked for by `session` (0: any; `request` 0: anything) and does not run yet.
    // The children are killed; gives the calls back.
    std::vector<queued_spawn> remove(session_id session, request_id request);
    // The child is known to have ended.
    void forget_child(child_id child);
    // Ends what took longer than it may.
    void sweep(clock::time_point now);
    [[nodiscard]] bool has_deadlines() const noexcept;

    [[nodiscard]] state now() const noexcept { return state_; }
    [[nodiscard]] generation_id id() const noexcept { return id_; }
    [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
    [[nodiscard]] child_id process() const noexcept { return process_; }
    [[nodiscard]] bool alive() const noexcept { return alive_; }
    [[nodiscard]] const template_spec& spec() const noexcept { return *spec_; }
    [[nodiscard]] const std::string& messages() const noexcept { return tail_; }
    // No process, no child, no call: it may be dropped.
    [[nodiscard]] bool over() const noexcept { return !alive_ && slots_.empty(); }
    [[nodiscard]] clock::time_point ready_since() const noexcept { return ready_since_; }
    void to_wire(v1::GenerationInfo& out) const;

    void fail(const failure& why, state s = state::failed);

private:
    // One child, from the order to fork it to its end.
    struct slot {
        enum class stage { ordered, parked, asked, running, unwanted };
        stage at = stage::ordered;
        // For the template or the child to tell of it.
        [[nodiscard]] bool waits() const noexcept {
            return at == stage::ordered || at == stage::asked;
        }
        bool warm = false;
        std::optional<queued_spawn> call;
        unique_fd channel;  // while it waits for a request
        ipc::process_ref process;
        child_id child;
        clock::time_point deadline{};
    };

    void read_control();
    // False when the template's side has closed.
    bool drain_control();
    void on_message(ipc::decoded<v1::TemplateMessage>&& m);
    void on_ready(const v1::TemplateReady& r);
    result<std::string> judge();
    void on_parked(const v1::ChildParked& p, std::vector<unique_fd>& fds);
    void on_child_started(const v1::ChildStarted& s, std::vector<unique_fd>& fds);
    void on_child_failed(const v1::ChildFailed& f);
    void on_child_ended(const v1::ChildEnded& e);
    void read_messages();
    bool drain_messages();

    [[nodiscard]] result<void> prove() const;
    result<void> order_fork(bool warm, std::optional<queued_spawn>& q);
    [[nodiscard]] static result<void> send_request(int channel, queued_spawn& q);
    bool call_warm(queued_spawn& q);
    void order_kill(sequence_number sequence);
    [[nodiscard]] bool leads_group() const noexcept;
    void kill_process();
    void close_warm();
    // The template has ended: fails every call whose child has not told that it runs.
    void fail_unstarted();
    void end_if_drained();

    const spawn::launcher& launcher_;
    generation_owner& owner_;
    std::shared_ptr<const template_spec> spec_;
    const generation_id id_;
    const std::uint32_t number_;
    state state_ = state::starting;
    bool alive_ = false;
    bool control_open_ = true;
    clock::time_point closed_{};  // since when it is not
    child_id process_;            // in the table of children
    int pid_ = 0;
    int pidfd_ = -1;
    boost::asio::posix::stream_descriptor control_;
    boost::asio::posix::stream_descriptor messages_;
    // Of handlers that may run after this object is gone.
    std::shared_ptr<bool> here_ = std::make_shared<bool>(true);
    ipc::receiver receiver_;
    std::string tail_;
    std::optional<ipc::clean_proof> proof_;
    std::vector<int> declared_;  // descriptors that are no finding
    // Of the channels that were sent last: while it forks, the template holds one.
    std::array<ino_t, 64> channels_{};
    std::string unclean_;  // and tolerated
    // Of the process that has ended, for the children it left that have told nothing yet.
    unique_fd group_;
    bool group_is_shared_ = false;
    std::map<sequence_number, slot> slots_;
    // Sequences, the oldest first. Stale ones are skipped.
    std::deque<sequence_number> warm_children_;
    std::size_t unstarted_ = 0;  // slots in ordered or asked
    std::size_t warm_ = 0;       // slots that are or will be parked
    clock::time_point refill_from_{};
    sequence_number next_sequence_{1};
    clock::time_point started_ = clock::now();
    clock::time_point ready_since_{};
    std::uint64_t initialization_ns_ = 0;
};

}  // namespace cleanfork::daemon
