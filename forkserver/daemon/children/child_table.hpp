// All children, by number; reaps those that the forkserver forked.
#pragma once

#include <cleanfork/failure.hpp>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "forkserver/daemon/children/child.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"

namespace cleanfork::daemon {

// What the table tells its owner.
class child_table_owner {
public:
    // It was reaped, its `exit` is filled. The owner may forget it.
    virtual void on_exit(child& c) = 0;
    // No more exits are at hand, or it is the others' turn: the time to tell of them.
    virtual void on_exits_drained() = 0;

protected:
    ~child_table_owner() = default;
};

// Reaps each child through its pidfd: waitid(P_ALL) would walk the kernel's list of
// children, and cost more the more there are.
class child_table final : private ends_owner {
public:
    child_table(event_loop& io, child_table_owner& owner);

    // Takes in a process, which is a child from now on; its number is chosen here. One that
    // the forkserver forked is watched. On failure (the kernel has no memory for the watch)
    // it is killed and reaped; the child of a template, which reaps it and tells, is always
    // taken in.
    result<child*> add(child_origin origin, ipc::process_ref process, std::uint64_t started_ns);

    // The next process of a child that is between two. It is watched, or killed and reaped.
    result<void> begin_again(child& c, ipc::process_ref process, std::uint64_t started_ns);
    // Its template tells how it ended, and knows no more of it. False when it has not ended.
    [[nodiscard]] bool ended(child& c, child_exit end);
    // The template has gone: the forkserver is the parent now, and watches it.
    void adopt(child& c);
    // Reaps it if it has ended. on_exits_drained() follows.
    void reap(child& c);

    child* find(child_id id);
    void forget(child_id id);

    [[nodiscard]] std::size_t alive() const noexcept { return alive_; }
    [[nodiscard]] std::size_t size() const noexcept { return children_.size(); }
    [[nodiscard]] std::uint64_t exited_total() const noexcept { return exited_total_; }
    // In the order of their numbers. The callback must not add or forget.
    void each(const std::function<void(child&)>& f);
    // The numbers of at most `most` children from `from` on; where to go on, none at the end.
    // A child that is added meanwhile comes after all others.
    child_id after(child_id from, std::size_t most, std::vector<child_id>& out) const;

private:
    void on_end_of_process(std::uint64_t number) override;
    void on_ends_told() override { owner_.on_exits_drained(); }
    // 0, or errno.
    [[nodiscard]] int watch(child& c);
    void unwatch(child& c);
    void reap_if_ended(child& c);
    void exited(child& c, child_exit e);

    event_loop& io_;
    child_table_owner& owner_;
    std::map<child_id, child> children_;
    child_id next_id_{1};
    std::size_t alive_ = 0;
    std::uint64_t exited_total_ = 0;
};

}  // namespace cleanfork::daemon
