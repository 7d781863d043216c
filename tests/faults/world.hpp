// A forkserver whose calls are watched, its neighbour, and all that they have: processes, files.
#pragma once

#include <sys/types.h>

#include <cleanfork/unique_fd.hpp>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/faults/neighbour.hpp"
#include "tests/faults/watch.hpp"
#include "tests/helpers/faults.hpp"

namespace cleanfork::faults {

// How many processes of a name there are below one of a name, "cleanforkd/template_faults".
using family = std::map<std::string, int>;

class world {
public:
    explicit world(watch& w);
    world(const world&) = delete;
    world& operator=(const world&) = delete;
    ~world();

    // Ends all that there is, and begins anew with a forkserver that is at its baseline; what is
    // wrong with that, if anything.
    std::string begin();
    // The forkserver alone, and what became of it: empty while it serves, else how it has ended.
    std::optional<int> start_daemon();
    // With the neighbour. What is wrong with it, if anything.
    std::string await_baseline(bool is_first);
    // True when all processes are those of the baseline, within a moment.
    std::string await_family();
    // Until what a path has begun is over: nothing runs that does not belong to the baseline.
    void await_quiet();
    // By SIGTERM; what is wrong with it.
    std::string end_daemon();
    void kill_all();

    // What has come to this process as a subreaper; not `client`.
    void reap(pid_t client = 0);
    [[nodiscard]] bool daemon_lives();
    [[nodiscard]] std::optional<int> daemon_status();
    [[nodiscard]] surroundings& places() { return places_; }
    [[nodiscard]] pid_t daemon_pid() const { return daemon_; }
    [[nodiscard]] std::string log() const;
    [[nodiscard]] std::vector<std::string> files() const;
    // Of the pipe that all that runs tells in.
    [[nodiscard]] std::string take_ran();
    // What the forkserver's library counts and makes fail.
    [[nodiscard]] test::fault& allocations() const {
        return table_->of[static_cast<int>(test::faulty::allocation)];
    }
    [[nodiscard]] long held() const { return table_->held; }

    // A process of its own from `f`, watched.
    template <class F>
    pid_t fork_watched(role r, F f);

private:
    [[nodiscard]] family look() const;

    watch& watch_;
    surroundings places_;
    unique_fd ran_read_, ran_write_, daemon_pidfd_, neighbour_socket_, log_;
    pid_t daemon_ = 0, neighbour_ = 0;
    std::optional<int> daemon_status_;
    family baseline_;
    std::optional<neighbours_answer> first_;
    test::fault_table* table_ = nullptr;
};

// Ends the process if it cannot.
pid_t fork_process();
unique_fd pair_of_sockets(unique_fd& other);

template <class F>
pid_t world::fork_watched(role r, F f) {
    unique_fd theirs;
    unique_fd ours = pair_of_sockets(theirs);
    const pid_t pid = fork_process();
    if (pid == 0) {
        ours.reset();
        watch_.close_all();  // a copy of a listener would be held for ever
        be_watched(theirs.get());
        f();
        ::_exit(0);
    }
    theirs.reset();
    watch_.add(take_listener(ours.get()), pid, r);
    return pid;
}

}  // namespace cleanfork::faults
