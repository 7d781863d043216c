// How a child is started whose lifetime has the target tree.
#pragma once

#include <cleanfork/failure.hpp>

#include "forkserver/daemon/children/child.hpp"

namespace cleanfork::daemon {

// Decides by what its descendants will be found, and puts that into the request: a cgroup of its
// own below `given`, the one it asks for (empty: below the forkserver's), or a mark. What a client
// put there as a mark is taken out. For another target there is nothing to do.
result<child_tree> prepare_tree(v1::SpawnRequest& request, tree_cgroups& cgroups,
                                const unique_fd& given);
// The same for a call: by a mark, since the child of a template is born where the template is.
result<child_tree> prepare_tree_of_call(v1::SpawnRequest& request);

}  // namespace cleanfork::daemon
