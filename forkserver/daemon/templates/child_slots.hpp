// The children of one process of a template, from the order to fork them to their end.
//
//     of a call   ordered --started--> running
//     warm        ordered --parked--> parked --ask_warm--> asked --started--> running
//                 ordered --ask_warm--> asked, when a call comes before it has parked
//     either      before it runs --drop_warm, withdraw, failed--> unwanted
//
// An unwanted child is killed, or ends by itself; its end is still to be told. What the
// template and its children tell is a peer's word: a report that fits no stage changes
// nothing.
#pragma once

#include <array>
#include <chrono>
#include <cleanfork/unique_fd.hpp>
#include <deque>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "forkserver/daemon/sessions/spawn_queue.hpp"
#include "forkserver/daemon/templates/call_channels.hpp"
#include "ipc/base/process_ref.hpp"

namespace cleanfork::daemon {

class child_slots {
public:
    using clock = std::chrono::steady_clock;

    // Keeps up to `warm_wanted` children warm; each has `to_start` from an order or a
    // request to the report that follows it.
    child_slots(std::size_t warm_wanted, std::chrono::milliseconds to_start)
        : warm_wanted_(warm_wanted), to_start_(to_start) {}

    // ---- orders: the caller has sent what is told here

    // The number of the next order.
    [[nodiscard]] sequence_number next() const noexcept { return next_; }
    // `channel` is kept until the child has started: it sees by its end that nobody wants it.
    void order_for_call(queued_spawn call, clock::time_point now, call_channel channel = {});
    // `channel` is where its request will be sent.
    void order_warm(unique_fd channel, clock::time_point now);

    // The channel of the warm child that was ordered first, parked or not; -1: there is none.
    [[nodiscard]] int warm_channel() const;
    // That child: its request was sent ...
    void ask_warm(queued_spawn call, clock::time_point now);
    // ... or could not be, since it died where it waited.
    void drop_warm();
    // No warm child gets a request any more: each ends by itself.
    void close_pool();

    // ---- reports

    [[nodiscard]] bool knows(sequence_number s) const { return slots_.contains(s); }
    // The process that has told of itself and does not run yet; null: none.
    [[nodiscard]] const ipc::process_ref* process_of(sequence_number s) const;
    // True when the process is known as that of another sequence.
    [[nodiscard]] bool is_of_another(sequence_number s, pid_t pid) const;
    // Of a running one; none: it is not.
    [[nodiscard]] child_id child_of(sequence_number s) const;
    // Gives `process` back when it is to be killed.
    [[nodiscard]] ipc::process_ref parked(sequence_number s, ipc::process_ref process);
    struct start {
        std::optional<queued_spawn> call;  // empty: the process is to be killed
        ipc::process_ref process;          // the one told now, or else when it parked
        call_channel channel;              // of the call, whose child has taken its request
    };
    [[nodiscard]] start started(sequence_number s, ipc::process_ref process);
    // To follow a start with a call: the child's number, none when nobody wants it.
    void runs_as(sequence_number s, child_id child);

    // Who is to be told what became of a child: of its call, or of itself once it ran.
    struct concerned {
        std::optional<queued_spawn> call;
        child_id child;
    };
    enum class failed_at { fork, start };  // of a fork that failed no end will be told
    // Empty when the report fits nothing.
    [[nodiscard]] std::optional<concerned> failed(sequence_number s, failed_at where,
                                                  clock::time_point now);
    [[nodiscard]] std::optional<concerned> ended(sequence_number s, clock::time_point now);

    // ---- children that are not to run

    // Unwanted from now on, and to be killed: through its process, or by the template when
    // that is not known yet.
    struct withdrawn {
        sequence_number sequence;
        ipc::process_ref process;
        std::optional<queued_spawn> call;
    };
    // The calls of `session` (none: of any; `request` none: any) that do not run yet. Those
    // that make a template are nobody's to withdraw.
    [[nodiscard]] std::vector<withdrawn> withdraw(session_id session, request_id request);
    // Those that had to tell of themselves before `now`.
    [[nodiscard]] std::vector<withdrawn> withdraw_late(clock::time_point now);
    // Nothing will be told of these: an unwanted one, and all that do not run.
    void drop(sequence_number s);
    [[nodiscard]] std::vector<queued_spawn> drop_unstarted();
    // SIGKILL to those that do not run and have told their process.
    void kill_unstarted() const;
    // A running one has ended. False: it is none of these.
    bool forget(child_id child);

    // ---- counts

    // Children that are to tell of themselves before a deadline.
    [[nodiscard]] std::size_t unstarted() const noexcept {
        return count(stage::ordered) + count(stage::asked);
    }
    // Children that a request can be sent to.
    [[nodiscard]] std::size_t warm() const noexcept { return pool_.size(); }
    [[nodiscard]] std::size_t running() const noexcept { return count(stage::running); }
    [[nodiscard]] bool empty() const noexcept { return slots_.empty(); }
    // A child runs, or a call waits for one.
    [[nodiscard]] bool busy() const;

    // For another call: a warm child, or an order that would not wait long.
    [[nodiscard]] bool room() const noexcept;
    [[nodiscard]] bool lacks_warm() const noexcept { return warm() < warm_wanted_; }
    // One may be ordered ahead now.
    [[nodiscard]] bool may_order_warm(clock::time_point now) const noexcept;

    [[nodiscard]] std::vector<child_id> running_children() const;
    [[nodiscard]] std::vector<pid_t> parked_pids() const;

private:
    enum class stage { ordered, parked, asked, running, unwanted };
    struct slot {
        stage at = stage::ordered;
        std::optional<queued_spawn> call;  // ordered or asked
        unique_fd channel;                 // ordered or parked, and in the pool
        call_channel wanted;               // ordered or asked: of a call
        ipc::process_ref process;          // once told, until it runs
        pid_t pid = 0;                     // once told
        child_id child;                    // running
        clock::time_point deadline{};      // ordered or asked
    };
    using slots = std::map<sequence_number, slot>;

    [[nodiscard]] std::size_t count(stage s) const noexcept {
        return counts_[static_cast<std::size_t>(s)];
    }
    std::size_t& count(stage s) noexcept { return counts_[static_cast<std::size_t>(s)]; }
    void add(slot s, clock::time_point now);
    void enter(slot& s, stage to);
    slots::iterator erase(slots::iterator at);
    unique_fd leave_pool(slots::iterator at);
    withdrawn withdraw(slots::iterator at);
    slots::iterator first_warm();
    void has_pid(slots::iterator at, pid_t pid);
    void check(const slot& s) const;

    std::size_t warm_wanted_;
    std::chrono::milliseconds to_start_;
    slots slots_;
    std::unordered_map<pid_t, sequence_number> pids_;  // of the slots that know theirs
    std::array<std::size_t, 5> counts_{};              // of the slots, by stage
    // Those with a channel, the one ordered first in front.
    std::deque<sequence_number> pool_;
    clock::time_point order_warm_from_{};  // a while after one could not be had
    sequence_number next_{1};
};

}  // namespace cleanfork::daemon
