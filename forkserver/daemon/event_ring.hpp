// The last lines of the log, as events, for sessions that ask for them.
//
// Of every level while a session asks, until it ends; else some of what is written, so that a
// spawn costs nothing. A session asks for what came after a number, and is answered when
// there is something, or is told how much it has missed: nothing is kept for one that reads slowly,
// and nobody waits for it.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <cstdint>
#include <deque>
#include <set>
#include <vector>

#include "forkserver/daemon/core.hpp"

namespace cleanfork::daemon {

class event_ring final : private log_watcher {
public:
    explicit event_ring(core& c);
    event_ring(const event_ring&) = delete;
    event_ring& operator=(const event_ring&) = delete;
    ~event_ring() { core_.log.tell(nullptr, false); }

    // Answered when there is an event after number `after`; for 0 at once, with what is kept.
    void ask(session& s, request_id request, std::uint64_t after);
    // True when it waited; it is answered with `why`.
    bool cancel(session& s, request_id request, const failure& why);
    void session_is_over(session_id session);

private:
    struct waiting {
        session_id session;
        request_id request;
        std::uint64_t after;
        charge place;  // in its session's quota of waits
    };

    // log_watcher
    void on_line(log_level level, std::string_view event,
                 std::initializer_list<log_field> fields) noexcept override;

    void drop_first() noexcept;
    void answer_all();
    void answer(session& s, request_id request, std::uint64_t after) const;
    [[nodiscard]] std::uint64_t last() const noexcept { return first_ + kept_.size() - 1; }

    core& core_;
    std::set<session_id> watchers_;
    std::vector<waiting> waiting_;
    std::deque<v1::Event> kept_;
    std::uint64_t first_ = 2;  // number of the first that is kept; 0 asks for all, 1 is before it
    bool answers_due_ = false;
};

}  // namespace cleanfork::daemon
