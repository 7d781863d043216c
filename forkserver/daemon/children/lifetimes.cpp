#include "forkserver/daemon/children/lifetimes.hpp"

#include <algorithm>
#include <cassert>
#include <csignal>
#include <vector>

namespace cleanfork::daemon {

namespace {

// Most groups go at once; a stubborn one is looked at less and less often.
constexpr std::chrono::milliseconds k_first_look{5};
constexpr std::chrono::milliseconds k_rare_look{1000};
// After this many the others get their turn.
constexpr std::size_t k_kills_a_turn = 64;
constexpr std::size_t k_looks_a_turn = 16;

}  // namespace

lifetimes::lifetimes(boost::asio::io_context& io, child_table& children,
                     const ipc::feature_set& features, lifetimes_owner& owner)
    : timer_(io),
      children_(children),
      means_{.group_by_pidfd = features.has(ipc::feature::pidfd_signal_group),
             .cgroup_kill = !ipc::disabled_by_environment(ipc::feature::cgroup_kill)},
      owner_(owner),
      look_timer_(io) {}

int lifetimes::signal(const child& c, int number, signal_target target) const {
    return signal_child(c, number, target, means_);
}

bool lifetimes::anyone_left(const child& c) const { return daemon::anyone_left(c, means_); }

void lifetimes::end(child& c, pace p) {
    const child_lifetime& l = c.origin.lifetime;
    const bool kill = p == pace::at_once || l.grace.count() == 0;
    const bool first = !c.ending;
    // Many programs take a second SIGTERM for "at once": its signal comes once.
    if (!first && !kill) return;
    if (first) {
        c.ending.emplace();
        ++ending_;
    }
    signal(c, kill ? SIGKILL : l.signal, l.target);
    // A stopped process sees its signal only once it goes on.
    if (!kill) signal(c, SIGCONT, l.target);
    c.ending->killed = c.ending->killed || kill;
    if (c.exit && (!anyone_left(c) || (kill && !first && is_over(c)))) return finish(c);
    if (!first) return;
    c.ending->deadline = steady::now() + (kill ? steady::duration{} : l.grace);
    deadlines_.emplace(c.ending->deadline, c.id);
    arm();
    if (c.exit) look_after(c.id);
}

void lifetimes::child_exited(child& c) {
    if (!c.ending) return;
    if (is_over(c)) return finish(c);
    look_after(c.id);
}

// Of a child that has exited. A tree is looked through until nobody is left that a signal reaches:
// one of it may have been born while it was killed.
bool lifetimes::is_over(const child& c) const {
    const bool exact = c.origin.lifetime.target == signal_target::tree;
    return (c.ending->killed && !exact) || !anyone_left(c);
}

void lifetimes::finish(child& c) {
    assert(c.ending && ending_ != 0);
    deadlines_.erase({c.ending->deadline, c.id});
    leaderless_.erase(c.id);
    c.ending.reset();
    --ending_;
    owner_.on_lifetime_over(c);
}

void lifetimes::look_after(child_id id) {
    leaderless_.insert(id);
    look_interval_ = k_first_look;
    if (!look_from_) arm_look(look_interval_);
}

void lifetimes::arm_look(steady::duration after) {
    if (leaderless_.empty()) return;
    look_timer_.expires_after(after);
    look_timer_.async_wait([this](boost::system::error_code ec) {
        if (!ec) look();
    });
}

void lifetimes::look() {
    std::vector<child_id> ids;
    for (auto at = leaderless_.lower_bound(look_from_);
         at != leaderless_.end() && ids.size() < k_looks_a_turn; ++at)
        ids.push_back(*at);
    for (const child_id id : ids) {
        look_from_ = child_id(id.value() + 1);
        child* c = children_.find(id);
        if (c == nullptr) continue;
        if (!anyone_left(*c))
            finish(*c);
        else if (c->ending->killed)
            signal(*c, SIGKILL, c->origin.lifetime.target);
    }
    if (leaderless_.lower_bound(look_from_) != leaderless_.end()) return arm_look({});
    look_from_ = {};
    look_interval_ = std::min<steady::duration>(look_interval_ * 2, k_rare_look);
    arm_look(look_interval_);
}

void lifetimes::arm() {
    if (deadlines_.empty() || deadlines_.begin()->first >= armed_for_) return;
    armed_for_ = deadlines_.begin()->first;
    timer_.expires_at(armed_for_);
    timer_.async_wait([this](boost::system::error_code ec) {
        if (!ec) expire();
    });
}

// After SIGKILL a process may still take its time to end; its exit is what
// finishes it. A group or cgroup whose leader has exited has nobody to tell us.
void lifetimes::expire() {
    armed_for_ = steady::time_point::max();
    for (std::size_t left = k_kills_a_turn;
         left != 0 && !deadlines_.empty() && deadlines_.begin()->first <= steady::now(); --left) {
        child* c = children_.find(deadlines_.begin()->second);
        deadlines_.erase(deadlines_.begin());
        assert(c != nullptr && c->ending);  // who is being ended is not forgotten
        signal(*c, SIGKILL, c->origin.lifetime.target);
        c->ending->killed = true;
        if (!c->exit) continue;
        if (is_over(*c))
            finish(*c);
        else
            look_after(c->id);
    }
    arm();
}

}  // namespace cleanfork::daemon
