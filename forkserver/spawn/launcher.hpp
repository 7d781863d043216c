// Turns a plan into a process.
//
// Cost: the child shares the forkserver's memory until it execs (CLONE_VM and
// CLONE_VFORK), so the size of the heap does not matter. It also shares the
// descriptor table (CLONE_FILES) until its first step, which takes a private
// copy of the low numbers only (CLOSE_RANGE_UNSHARE, kernel commit 278a5fbaed89):
// so the number of pidfds the forkserver holds does not matter either, as long
// as they live above the descriptors of requests. own_descriptor() sees to that.
#pragma once

#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>

#include "forkserver/spawn/plan.hpp"
#include "ipc/base/features.hpp"
#include "ipc/base/process_ref.hpp"

namespace cleanfork::spawn {

struct spawned {
    ipc::process_ref process;
    std::uint64_t started_ns = 0;  // CLOCK_MONOTONIC
};

struct child_context;

// Not thread-safe, and only right in a process with one thread.
class launcher {
public:
    // Allocates the child's stack and the shared report page; opens /dev/null.
    static result<launcher> create(const ipc::feature_set& features,
                                   std::uint64_t soft_descriptor_limit);

    launcher(launcher&& other) noexcept;
    launcher& operator=(launcher&&) = delete;
    ~launcher();

    [[nodiscard]] const parent_facts& self() const noexcept { return self_; }

    // The process runs the program when this returns, or there is none: a failure
    // names the step, errno and object, and leaves nothing behind.
    result<spawned> launch(prepared& p);

    // Moves a long-lived descriptor of the forkserver above those of requests.
    [[nodiscard]] unique_fd own_descriptor(unique_fd fd) const noexcept;
    [[nodiscard]] ipc::process_ref own_process(ipc::process_ref p) const noexcept {
        const pid_t pid = p.pid();
        return {pid, own_descriptor(std::move(p).take_pidfd())};
    }

private:
    launcher() = default;
    int clone_sharing_memory(child_context& context, int& pidfd) const;
    static int clone_into_cgroup(child_context& context, int& pidfd);

    parent_facts self_;
    unique_fd null_;
    void* stack_ = nullptr;
    void* report_ = nullptr;
    int own_from_ = 0;
    bool unshare_ = false;
};

}  // namespace cleanfork::spawn
