#include "forkserver/daemon/children/tree_cgroups.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "ipc/base/cgroups.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::string_view k_prefix = "cleanfork-tree.";

// False while somebody is in it. One that is gone, or that is not ours to remove, is done with.
bool removed(int parent, const std::string& name) {
    return ::unlinkat(parent, name.c_str(), AT_REMOVEDIR) == 0 || errno != EBUSY;
}

// A process that ends at once, without a signal to its parent.
bool can_be_born_in(const std::string& path) {
    const unique_fd cgroup = ipc::open_cgroup(path);
    if (!cgroup) return false;
    clone_args args{};
    args.flags = CLONE_INTO_CGROUP | CLONE_VFORK;
    args.cgroup = static_cast<std::uint64_t>(cgroup.get());
    const long pid = ::syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) ::_exit(0);
    if (pid < 0) return false;
    ipc::retry([&] { return ::waitpid(static_cast<pid_t>(pid), nullptr, __WALL); });
    return true;
}

// What forkservers that were killed have left. An empty one of a forkserver that lives may be
// about to be used.
void remove_stale(const std::string& path) {
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), &::closedir);
    while (const dirent* e = dir ? ::readdir(dir.get()) : nullptr) {
        const std::string_view name(static_cast<const char*>(e->d_name));
        if (!name.starts_with(k_prefix)) continue;
        const pid_t owner = ipc::to_number<pid_t>(name.substr(k_prefix.size()));
        if (owner > 0 && ::kill(owner, 0) != 0 && errno == ESRCH)
            ::unlinkat(::dirfd(dir.get()), e->d_name, AT_REMOVEDIR);
    }
}

}  // namespace

tree_cgroup::~tree_cgroup() {
    if (!removed(parent_->get(), name_)) leftovers_->push_back({parent_, name_});
}

void tree_cgroups::remove_leftovers() {
    std::erase_if(*leftovers_, [](const leftover_cgroup& each) {
        return removed(each.parent->get(), each.name);
    });
}

std::unique_ptr<tree_cgroup> tree_cgroups::make(const std::string& path) {
    if (!allowed_) return nullptr;
    remove_leftovers();
    if (!path.empty()) {
        auto made = make_below(path);
        if (made && !can_be_born_in(made->path())) made.reset();
        return made;
    }
    if (!own_known_) {
        own_known_ = true;
        own_ = ipc::own_cgroup();
        if (!own_.empty()) remove_stale(own_);
        const auto trial = own_.empty() ? nullptr : make_below(own_);
        if (!trial || !can_be_born_in(trial->path())) own_.clear();
    }
    return own_.empty() ? nullptr : make_below(own_);
}

std::unique_ptr<tree_cgroup> tree_cgroups::make_below(const std::string& path) {
    auto parent = std::make_shared<unique_fd>(ipc::open_cgroup(path));
    if (!*parent) return nullptr;
    std::string name =
        std::string(k_prefix) + std::to_string(::getpid()) + "." + std::to_string(++made_);
    if (::mkdirat(parent->get(), name.c_str(), 0755) != 0) return nullptr;
    std::string full = path + "/" + name;
    return std::make_unique<tree_cgroup>(std::move(parent), std::move(name), std::move(full),
                                         leftovers_);
}

}  // namespace cleanfork::daemon
