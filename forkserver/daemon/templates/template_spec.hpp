// What a template is made from: kept for its reloads and restarts.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <chrono>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <memory>
#include <string>
#include <vector>

#include "forkserver/daemon/daemon_ids.hpp"
#include "forkserver/spawn/plan.hpp"

namespace cleanfork::daemon {

struct template_spec {
    std::string name;
    std::string from;  // of a derived one: the template it is forked from
    v1::SpawnRequest process;
    std::vector<int> purposes;
    spawn::shared_descriptors descriptors;
    std::shared_ptr<const spawn::session_base> base;
    std::size_t warm = 0;
    std::size_t leases = 0;  // of all sessions together
    std::chrono::milliseconds start_timeout{};
    std::chrono::milliseconds call_timeout{};
    std::vector<int> allowed_descriptors;
    bool tolerate_unclean = false;
    session_id owner{};  // none: it stays when the session that added it ends
    bool early = false;  // forked from a running program: it cannot be started again
};

using shared_spec = std::shared_ptr<const template_spec>;

// From the request of `session`, whose process is moved out of it. Fails with what is wrong
// with it.
result<shared_spec> spec_of(v1::AddTemplateRequest& r, std::vector<int> purposes,
                            spawn::shared_descriptors descriptors,
                            std::shared_ptr<const spawn::session_base> base, session_id session);
// Of a template that was forked early from the program that began this forkserver.
shared_spec early_spec(std::string name);

}  // namespace cleanfork::daemon
