// Processes that take their time between their clone and their program: the file system of the
// program or of its directory does not answer, or nobody lets them run. The loop does not wait
// for them; it looks at them now and then, the less often the longer they take.
#pragma once

#include <chrono>
#include <cleanfork/failure.hpp>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "forkserver/daemon/daemon_ids.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/spawn/launcher.hpp"

namespace cleanfork::daemon {

// Who waits for one, with all that is to be done then. Asked once, and destroyed after.
class born {
public:
    virtual ~born() = default;
    // It runs its program, or why it does not.
    virtual void begun(result<spawn::spawned> process) = 0;
};

// Whose it is, and until when it is waited for.
struct birth_cause {
    session_id session;
    request_id request;
    std::string command;
    std::optional<std::uint64_t> deadline_ns;  // CLOCK_MONOTONIC
    // False: somebody else reaps it, whatever becomes of it.
    bool is_ours = true;
};

// What the births tell their owner.
class births_owner {
public:
    // Some may have begun: there may be room for more.
    virtual void on_births_looked_at() = 0;

protected:
    ~births_owner() = default;
};

class births {
public:
    using clock = std::chrono::steady_clock;
    struct one {
        birth_cause cause;
        std::unique_ptr<spawn::birth> birth;
        std::unique_ptr<born> whose;  // none: given up, and killed
        clock::time_point next_look;
    };

    births(event_loop& io, births_owner& owner)
        : io_(io), look_again_(io, "births", [this] { look(); }), owner_(owner) {}

    // How long the loop waits for a process at most: nearly all have begun by then. Not at all for
    // one of a session that has others that take longer.
    [[nodiscard]] std::chrono::nanoseconds patience(session_id session) const noexcept;
    // One more can begin beside those that just have been made: each has a processor.
    [[nodiscard]] bool has_room_beside() const noexcept;
    // Tells of those that have begun, as far as that is known without a system call.
    void tell_begun();
    // The same, and waits for those that just have been made, as long as for each alone.
    void await_fresh();
    // Room for one, made before there is a process: to add that then cannot fail.
    using room = std::list<one>;
    [[nodiscard]] static room make_room() { return room(1); }
    void add(room r, std::unique_ptr<spawn::birth> birth, birth_cause cause,
             std::unique_ptr<born> whose) noexcept;
    // One of them that nobody else reaps.
    [[nodiscard]] bool has(pid_t pid) const noexcept;
    // Why there can be no more now; step::none: there can.
    [[nodiscard]] failure refusal(session_id session) const;
    // There are as many as may be at once: who can wait waits.
    [[nodiscard]] bool is_full() const noexcept;

    // What a request asked for is not waited for any more, and killed; true when there was any.
    bool give_up(session_id session, request_id request, const failure& why);
    // The same for a session that is over, without a word, and for all.
    void drop(session_id session);
    void give_up_all(const failure& why);

    // One that somebody else reaps has ended: if it could not begin, that is told before.
    void settle(pid_t pid);

    // Those that are waited for, and those that were and are not gone.
    [[nodiscard]] const std::list<one>& all() const noexcept { return all_; }

private:
    void arm();
    void look();
    // True when there is nothing more to do.
    bool look_at(one& o);
    static bool is_gone(one& o);
    template <class IsReady>
    void tell_each(IsReady is_ready);
    template <class Which>
    void end_each(Which which, const failure& why);
    void abandon(one& o, const failure& why);
    void tell(std::unique_ptr<born> whose, result<spawn::spawned> process) noexcept;

    event_loop& io_;
    bounded_timer look_again_;
    births_owner& owner_;
    std::list<one> all_;
};

}  // namespace cleanfork::daemon
