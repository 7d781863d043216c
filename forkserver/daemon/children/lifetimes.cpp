#include "forkserver/daemon/children/lifetimes.hpp"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <csignal>
#include <new>
#include <utility>

#include "forkserver/daemon/loop/boundary.hpp"

namespace cleanfork::daemon {

namespace {

// Most groups go at once; a stubborn one is looked at less and less often.
constexpr std::chrono::milliseconds k_first_look{5};
constexpr std::chrono::milliseconds k_rare_look{1000};
// From SIGKILL on: for what the kernel does before a process is gone. One that waits for a file
// system that does not answer takes longer, or for ever.
constexpr std::chrono::seconds k_to_be_gone{20};
// After this many the others get their turn.
constexpr std::size_t k_kills_a_turn = 64;
constexpr std::size_t k_looks_a_turn = 16;

}  // namespace

lifetimes::lifetimes(event_loop& io, child_table& children, const ipc::feature_set& features,
                     logger& log, lifetimes_owner& owner)
    : io_(io),
      deadline_(io, "lifetimes", [this] { expire(); }),
      children_(children),
      log_(log),
      means_{.group_by_pidfd = features.has(ipc::feature::pidfd_signal_group),
             .cgroup_kill = !ipc::disabled_by_environment(ipc::feature::cgroup_kill)},
      owner_(owner),
      look_again_(io, "lifetimes", [this] { look(); }) {}

int lifetimes::signal(const child& c, int number, signal_target target) const {
    return signal_child(c, number, target, means_);
}

bool lifetimes::anyone_left(const child& c) const { return daemon::anyone_left(c, means_); }

void lifetimes::end(child& c, pace p) {
    const child_lifetime& l = c.origin.lifetime;
    const bool first = !c.ending;
    if (first) {
        c.ending.emplace();
        ++ending_;
    }
    if (p == pace::at_once || l.grace.count() == 0) return kill(c);
    // Many programs take a second SIGTERM for "at once": its signal comes once.
    if (!first) return;
    signal(c, l.signal, l.target);
    // A stopped process sees its signal only once it goes on.
    signal(c, SIGCONT, l.target);
    if (c.exit && !anyone_left(c)) return finish(c);
    give_time(c, l.grace);
    if (c.exit) look_after(c.id);
}

void lifetimes::give_time(child& c, steady::duration time) {
    deadlines_.erase({c.ending->deadline, c.id});
    c.ending->deadline = steady::now() + time;
    try {
        deadlines_.emplace(c.ending->deadline, c.id);
    } catch (const std::bad_alloc&) {  // nobody would remember to end it
        c.ending->killed = true;
        signal(c, SIGKILL, c.origin.lifetime.target);
        return;
    }
    arm();
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
    if (!leaderless_.empty()) look_again_.set_in(after);
}

void lifetimes::look() {
    for (std::size_t left = k_looks_a_turn; left != 0; --left) {
        const auto at = leaderless_.lower_bound(look_from_);
        if (at == leaderless_.end()) break;
        look_from_ = child_id(at->value() + 1);
        if (child* c = children_.find(*at)) bounded(io_, "lifetimes", [&] { look_at(*c); });
    }
    if (leaderless_.lower_bound(look_from_) != leaderless_.end()) return arm_look({});
    look_from_ = {};
    look_interval_ = std::min<steady::duration>(look_interval_ * 2, k_rare_look);
    arm_look(look_interval_);
}

void lifetimes::look_at(child& c) {
    if (!anyone_left(c))
        finish(c);
    else if (c.ending->killed)
        signal(c, SIGKILL, c.origin.lifetime.target);
}

void lifetimes::arm() {
    if (!deadlines_.empty()) deadline_.set(deadlines_.begin()->first);
}

// Its exit is what finishes it. A group or cgroup whose leader has exited has nobody to tell us.
void lifetimes::kill(child& c) {
    const int e = signal(c, SIGKILL, c.origin.lifetime.target);
    const bool again = std::exchange(c.ending->killed, true);
    if (c.exit && is_over(c)) return finish(c);
    if (!c.exit && (e == EPERM || c.process.signal(0) == EPERM))
        return give_up(c,
                       "the kernel does not let the forkserver signal it (EPERM): it has become "
                       "another user, as a set-user-ID program may");
    if (again) return;
    give_time(c, k_to_be_gone);
    if (c.exit) look_after(c.id);
}

void lifetimes::give_up(child& c, const char* why) {
    log_.warning("child_left", {{"child", c.id.value()},
                                {"pid", std::int64_t{c.process.pid()}},
                                {"command", c.origin.command},
                                {"why", why}});
    finish(c);
}

void lifetimes::expire() {
    for (std::size_t left = k_kills_a_turn;
         left != 0 && !deadlines_.empty() && deadlines_.begin()->first <= steady::now(); --left) {
        child* c = children_.find(deadlines_.begin()->second);
        deadlines_.erase(deadlines_.begin());
        assert(c != nullptr && c->ending);  // who is being ended is not forgotten
        bounded(io_, "lifetimes", [&] {
            if (c->ending->killed)
                give_up(*c, "it was killed and is not gone: it may wait for a file system");
            else
                kill(*c);
        });
    }
    arm();
}

}  // namespace cleanfork::daemon
