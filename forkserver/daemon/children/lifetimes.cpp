#include "forkserver/daemon/children/lifetimes.hpp"

#include <algorithm>
#include <csignal>
#include <vector>

namespace cleanfork::daemon {

namespace {

// Most groups go at once; a stubborn one is looked at less and less often.
constexpr std::chrono::milliseconds k_first_look{5};
constexpr std::chrono::milliseconds k_rare_look{1000};

}  // namespace

lifetimes::lifetimes(boost::asio::io_context& io, child_table& children,
                     const ipc::feature_set& features, std::function<void(child_id)> on_ended)
    : timer_(io),
      children_(children),
      group_by_pidfd_(features.has(ipc::feature::pidfd_signal_group)),
      cgroup_kill_(!ipc::disabled_by_environment(ipc::feature::cgroup_kill)),
      on_ended_(std::move(on_ended)),
      look_timer_(io) {}

int lifetimes::signal(const child& c, int number, signal_target target) const {
    return signal_child(c, number, target, group_by_pidfd_, cgroup_kill_);
}

bool lifetimes::anyone_left(const child& c) const {
    return daemon::anyone_left(c, group_by_pidfd_);
}

void lifetimes::end(child& c, bool at_once) {
    const bool kill = at_once || c.lifetime.grace.count() == 0;
    const auto [at, first] = ending_.try_emplace(c.id);
    // Many programs take a second SIGTERM for "at once": its signal comes once.
    if (!first && !kill) return;
    signal(c, kill ? SIGKILL : c.lifetime.signal, c.lifetime.target);
    // A stopped process sees its signal only once it goes on.
    if (!kill) signal(c, SIGCONT, c.lifetime.target);
    at->second.killed = at->second.killed || kill;
    if (c.exit && (!anyone_left(c) || (kill && !first))) return finish(c.id);
    if (!first) return;
    at->second.deadline = clock::now() + (kill ? clock::duration{} : c.lifetime.grace);
    deadlines_.emplace(at->second.deadline, c.id);
    arm();
    if (c.exit) look_after(c.id);
}

void lifetimes::child_exited(child& c) {
    const auto at = ending_.find(c.id);
    if (at == ending_.end()) return;
    if (at->second.killed || !anyone_left(c)) return finish(c.id);
    look_after(c.id);
}

void lifetimes::finish(child_id id) {
    const auto at = ending_.find(id);
    deadlines_.erase({at->second.deadline, id});
    ending_.erase(at);
    leaderless_.erase(id);
    on_ended_(id);
}

void lifetimes::look_after(child_id id) {
    leaderless_.insert(id);
    look_interval_ = k_first_look;
    arm_look();
}

void lifetimes::arm_look() {
    if (leaderless_.empty()) return;
    look_timer_.expires_after(look_interval_);
    look_timer_.async_wait([this](boost::system::error_code ec) {
        if (!ec) look();
    });
}

void lifetimes::look() {
    const std::vector<child_id> ids(leaderless_.begin(), leaderless_.end());
    for (const child_id id : ids) {
        const child* c = children_.find(id);
        if (c != nullptr && !anyone_left(*c)) finish(id);
    }
    look_interval_ = std::min<clock::duration>(look_interval_ * 2, k_rare_look);
    arm_look();
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
    armed_for_ = clock::time_point::max();
    while (!deadlines_.empty() && deadlines_.begin()->first <= clock::now()) {
        const child_id id = deadlines_.begin()->second;
        deadlines_.erase(deadlines_.begin());
        child* c = children_.find(id);
        if (c == nullptr) {
            ending_.erase(id);
            leaderless_.erase(id);
            continue;
        }
        signal(*c, SIGKILL, c->lifetime.target);
        ending_[id].killed = true;
        if (c->exit) finish(id);
    }
    arm();
}

}  // namespace cleanfork::daemon
