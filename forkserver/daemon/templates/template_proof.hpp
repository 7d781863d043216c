// Whether a template may be forked: audited when it is ready, and looked at again before
// each fork.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>
#include <sys/types.h>

#include <array>
#include <cleanfork/failure.hpp>
#include <optional>
#include <string>
#include <vector>

#include "forkserver/daemon/templates/fork_facts.hpp"
#include "forkserver/daemon/templates/template_spec.hpp"
#include "ipc/audit/clean_proof.hpp"

namespace cleanfork::daemon {

class template_proof {
public:
    explicit template_proof(shared_spec spec) : spec_(std::move(spec)) {}

    // The whole audit. Fails with step::clean when the template is not clean and that is not
    // tolerated, with another step when it cannot be looked at.
    result<void> begin(pid_t pid, const v1::TemplateReady& told);
    // To be called before each fork, once begin() has succeeded: fails likewise. Nothing but
    // the template's loop runs in it between this and the fork, unless it is at the fork before.
    [[nodiscard]] result<fork_facts> check() const;
    // `channel` is being sent to the template, which holds it while it forks.
    void add_passing(ino_t channel) noexcept;

    // Empty before begin(), and when it has ended.
    [[nodiscard]] std::optional<std::size_t> threads() const;
    // Descriptors that are no finding: of the specification and the template's loop.
    [[nodiscard]] const std::vector<int>& declared() const noexcept { return declared_; }
    // What is not clean, and tolerated.
    [[nodiscard]] const std::string& unclean() const noexcept { return unclean_; }

private:
    // What is unclean in it; empty: nothing.
    result<std::string> judge(pid_t pid);

    shared_spec spec_;
    std::optional<ipc::clean_proof> proof_;
    std::vector<int> declared_;
    std::array<ino_t, 64> passing_{};  // the last ones sent, in a ring
    std::size_t next_passing_ = 0;
    std::string unclean_;
    bool ends_threads_ = false;
};

}  // namespace cleanfork::daemon
