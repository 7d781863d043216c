#include "forkserver/daemon/children/tree.hpp"

#include <fcntl.h>

#include "forkserver/daemon/children/tree_walk.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

bool is_wanted(const v1::SpawnRequest& r) {
    return r.lifetime().target() == v1::SIGNAL_TARGET_TREE;
}

// "/" and longer, or empty when nobody can say where it is.
std::string path_of(const unique_fd& directory) {
    return directory ? ipc::read_link(AT_FDCWD, "/proc/self/fd/" + std::to_string(directory.get()))
                     : std::string();
}

}  // namespace

result<child_tree> prepare_tree_of_call(v1::SpawnRequest& request) {
    request.clear_tree_marker();
    child_tree tree;
    if (!is_wanted(request)) return tree;
    tree.by = v1::TREE_MEANS_WALK;
    tree.mark = new_tree_mark();
    if (tree.mark == 0)
        return ipc::fail(step::prepare, ENOTSUP, "tree",
                         "no cgroup can be made for it, and its processes cannot be found without "
                         "/proc, or with a hard limit \"locks\" as low as the forkserver's, or one "
                         "that cannot be set, as in gVisor");
    request.set_tree_marker(tree.mark);
    return tree;
}

result<child_tree> prepare_tree(v1::SpawnRequest& request, tree_cgroups& cgroups,
                                const unique_fd& given) {
    request.clear_tree_marker();
    child_tree tree;
    if (!is_wanted(request)) return tree;
    const std::string below = path_of(given);
    if (!given || !below.empty()) tree.cgroup = cgroups.make(below);
    if (!tree.cgroup) return prepare_tree_of_call(request);
    tree.by = v1::TREE_MEANS_CGROUP;
    request.set_cgroup_path(tree.cgroup->path());
    return tree;
}

}  // namespace cleanfork::daemon
