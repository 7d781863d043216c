// Turns a plan into a process.
//
// Cost: the child shares the forkserver's memory until it execs (CLONE_VM), so the size of the
// heap does not matter. It also shares the descriptor table (CLONE_FILES) until its first step,
// which takes a private copy of the lowest numbers only (CLOSE_RANGE_UNSHARE, kernel commit
// 278a5fbaed89): so the number of descriptors that the forkserver holds does not matter either.
//
// The lowest numbers are reserved: they hold /dev/null and the children's ends of sockets, on which
// each gets the descriptors of its plan. So no child has what another was given, not even until it
// execs: a pipe ends when it should, and no child is the last who closes what may take its time.
//
// Nobody waits for the child, as vfork(2) would: what it may wait for (a file system, a cgroup's
// share, who stops it) is not the forkserver's. So what it reads lives until it has exec'ed or
// ended, and its steps leave alone what it shares, errno included (raw_call.hpp).
#pragma once

#include <chrono>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <memory>

#include "forkserver/spawn/disposal.hpp"
#include "forkserver/spawn/plan.hpp"
#include "ipc/base/features.hpp"
#include "ipc/base/process_ref.hpp"

namespace cleanfork::spawn {

struct spawned {
    ipc::process_ref process;
    std::uint64_t started_ns = 0;  // CLOCK_MONOTONIC
};

class birth_place;
class birth_places;

// A process between its clone and its program.
class birth {
public:
    birth(const birth&) = delete;
    birth& operator=(const birth&) = delete;
    // One that goes on is killed, and what it reads is left alone for good: at the end of the
    // forkserver.
    ~birth();

    // True when it has begun its program, or failed to. Waits for that at most so long.
    [[nodiscard]] bool wait(std::chrono::nanoseconds most) noexcept;
    // The same as far as its memory tells, without a system call.
    [[nodiscard]] bool has_told() noexcept;
    // After that: the process, which runs the program, or why it does not. Such a process has
    // ended or is about to; whoever has it reaps it.
    [[nodiscard]] bool failed() const noexcept;
    [[nodiscard]] failure why() const;

    [[nodiscard]] ipc::process_ref& process() noexcept { return process_; }
    [[nodiscard]] std::uint64_t started_ns() const noexcept { return started_ns_; }
    // The step it is in.
    [[nodiscard]] step at() const noexcept;

private:
    friend class launcher;
    birth() = default;

    std::shared_ptr<birth_places> places_;
    std::unique_ptr<birth_place> place_;
    std::unique_ptr<prepared> plan_;
    prepared* borrowed_ = nullptr;  // which is the caller's when there is no `plan_`
    ipc::process_ref process_;
    std::uint64_t started_ns_ = 0;
    bool done_ = false;
};

// Not thread-safe, and only right in a process with one thread.
class launcher {
public:
    // Opens /dev/null.
    static result<launcher> create(const ipc::feature_set& features,
                                   std::uint64_t soft_descriptor_limit);

    launcher(launcher&&) noexcept = default;
    launcher& operator=(launcher&&) = delete;

    // Where goes what came from others and a child has not received.
    void dispose_by(shared_disposal disposal) const;
    void dispose(std::vector<unique_fd> fds) const noexcept;

    [[nodiscard]] const parent_facts& self() const noexcept { return self_; }

    // There is a process when this returns. A failure names step, errno and object, and leaves
    // nothing behind.
    result<std::unique_ptr<birth>> begin(std::unique_ptr<prepared> p);
    // The same, waiting however long it takes: for who has nothing else to do.
    result<spawned> launch(prepared& p);

    // Moves a descriptor that was open before this object above the reserved numbers, if it is not
    // there; all that are opened later are.
    [[nodiscard]] unique_fd own_descriptor(unique_fd fd) const noexcept;
    [[nodiscard]] ipc::process_ref own_process(ipc::process_ref p) const noexcept {
        const pid_t pid = p.pid();
        return {pid, own_descriptor(std::move(p).take_pidfd())};
    }

private:
    launcher() = default;
    result<std::unique_ptr<birth>> begin(prepared& p);
    [[nodiscard]] static bool shares_memory(const plan& p) noexcept;
    [[nodiscard]] int clone(birth& b, const plan& p) const;

    parent_facts self_;
    unique_fd null_;
    std::shared_ptr<birth_places> places_;
    int own_from_ = 0;
    bool unshare_ = false;
};

}  // namespace cleanfork::spawn
