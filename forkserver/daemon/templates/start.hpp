// How the process of a generation is asked for.
#pragma once

#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <functional>

#include "forkserver/daemon/children/births.hpp"
#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/daemon/sessions/spawn_queue.hpp"
#include "forkserver/daemon/templates/template_spec.hpp"
#include "forkserver/spawn/launcher.hpp"

namespace cleanfork::daemon {

struct start_request {
    queued_spawn spawn;           // with the template's ends among its descriptors
    unique_fd control, messages;  // the forkserver's
};

// Makes the two ends of a generation, and the spawn of its process from the specification.
result<start_request> request_start(const template_spec& spec);

// Where a process of a template is begun and known.
struct start_tools {
    spawn::launcher& launcher;
    child_table& children;
    births& begin;
    // It could not begin its program, which showed only after spawn_process().
    std::function<void(const failure&)> failed;
};

// Spawns the process of a generation that no other template forks. It may not have begun its
// program; when it cannot, it ends, and `failed` is told why.
result<child*> spawn_process(const start_tools& tools, generation_id id, queued_spawn q);

}  // namespace cleanfork::daemon
