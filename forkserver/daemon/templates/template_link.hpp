// The control socket of one process of a template: orders out, reports in.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <chrono>
#include <cleanfork/unique_fd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "forkserver/daemon/daemon_ids.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/daemon/loop/watched_fd.hpp"
#include "forkserver/daemon/templates/fork_facts.hpp"
#include "forkserver/template/order.hpp"
#include "ipc/wire/message.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::daemon {

// A message, or what is told of a child in fixed layout.
struct template_report : ipc::decoded<v1::TemplateMessage> {
    std::optional<templates::child_event> event{};
    int cut = 0;          // errno, when its descriptor was to be had no more
    rusage usage{};       // of an end
    std::string error{};  // of the entry's exception
};

// What the link tells its owner. The link may be dropped only from outside these calls.
class template_link_owner {
public:
    // Of the template or of a child that it forked: a peer's word, but for the sender, whom the
    // kernel tells. A report whose descriptor was cut, since there are no more to be had, comes
    // without it. When this throws it is told once more; what was taken from `r` is then not there.
    // What it leaves of the descriptors is for dispose().
    virtual void on_report(template_report& r) = 0;
    // Closes what came over the link, without waiting for it.
    virtual void dispose(std::vector<unique_fd> fds) noexcept = 0;
    // Nobody is left at the other end. May be told again after drain() has met the end.
    virtual void on_link_closed() = 0;

protected:
    ~template_link_owner() = default;
};

class template_link {
public:
    using clock = std::chrono::steady_clock;
    enum class request { waits_in_channel, comes_later };  // the latter for a warm child

    // Throws when the socket cannot be watched.
    template_link(event_loop& io, unique_fd socket, template_link_owner& owner);
    template_link(const template_link&) = delete;
    template_link& operator=(const template_link&) = delete;
    ~template_link();

    // `channel` (borrowed) is the new child's. 0 or errno; EPIPE when the link is closed.
    [[nodiscard]] int order_fork(sequence_number sequence, int channel, request r,
                                 const fork_facts& facts = {});
    // Only the template can signal a child that has not told its pidfd yet.
    void order_kill(sequence_number sequence);

    // Tells of the reports that have come, of so many at once. False when the other end has closed.
    bool drain();
    // The end of a template: of all that have come.
    void drain_all();

    [[nodiscard]] bool is_open() const noexcept { return !closed_; }
    // When it was found closed; empty while it is open.
    [[nodiscard]] std::optional<clock::time_point> closed_since() const noexcept { return closed_; }

private:
    enum class turn { over, must_wait, closed };
    turn take_reports(int most);
    void take_report(ipc::received& packet);
    void await();

    event_loop& io_;
    watched_fd socket_;
    bounded_timer again_;
    template_link_owner& owner_;
    ipc::receiver receiver_;
    std::optional<clock::time_point> closed_;
};

}  // namespace cleanfork::daemon
