// Cgroups made for one child each, so that all its descendants can be ended at once.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <memory>
#include <string>
#include <vector>

namespace cleanfork::daemon {

// What could not be removed yet, since somebody is in it.
struct leftover_cgroup {
    std::shared_ptr<unique_fd> parent;
    std::string name;
};
using leftover_cgroups = std::vector<leftover_cgroup>;

// One such cgroup; removed when this is destroyed, or later if somebody is still in it.
class tree_cgroup {
public:
    tree_cgroup(std::shared_ptr<unique_fd> parent, std::string name, std::string path,
                std::shared_ptr<leftover_cgroups> leftovers)
        : parent_(std::move(parent)),
          name_(std::move(name)),
          path_(std::move(path)),
          leftovers_(std::move(leftovers)) {}
    tree_cgroup(const tree_cgroup&) = delete;
    tree_cgroup& operator=(const tree_cgroup&) = delete;
    ~tree_cgroup();

    [[nodiscard]] const std::string& path() const noexcept { return path_; }

private:
    std::shared_ptr<unique_fd> parent_;
    std::string name_, path_;
    std::shared_ptr<leftover_cgroups> leftovers_;
};

// Makes them where that is allowed: the forkserver may create a directory in the cgroup, and a
// process can be born there. It tries, since no permission bit tells the second.
class tree_cgroups {
public:
    // `allowed`: false where no process can be born in a cgroup.
    explicit tree_cgroups(bool allowed) : allowed_(allowed) {}
    ~tree_cgroups() { remove_leftovers(); }
    tree_cgroups(const tree_cgroups&) = delete;
    tree_cgroups& operator=(const tree_cgroups&) = delete;

    // Below the cgroup `path`, or below the forkserver's own when that is empty. Null where it
    // is not allowed.
    std::unique_ptr<tree_cgroup> make(const std::string& path);
    // Those whose last process has ended since.
    void remove_leftovers();

private:
    std::unique_ptr<tree_cgroup> make_below(const std::string& path);

    const bool allowed_;
    bool own_known_ = false;
    std::string own_;  // empty: none where cgroups can be made
    unsigned long long made_ = 0;
    std::shared_ptr<leftover_cgroups> leftovers_ = std::make_shared<leftover_cgroups>();
};

}  // namespace cleanfork::daemon
