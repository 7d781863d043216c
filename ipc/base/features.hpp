// What the running kernel can do, found by trying, never from its version.
//
// $CLEANFORK_DISABLE_FEATURES (names separated by commas) forces features off:
// the fallbacks are tested that way, and a user can work around a broken kernel.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cleanfork::ipc {

// Numbers of v1::Feature.
enum class feature : std::uint32_t {
    pidfd_exit_info = 1,      // exit statuses survive the loss of the forkserver
    close_range_unshare = 2,  // spawn cost independent of the number of children
    clone_into_cgroup = 3,    // children are born in their cgroup
    cgroup_kill = 4,          // a cgroup is killed at once
    pidfd_signal_group = 5,   // a process group is signalled free of reuse
    execveat = 6,             // programs by descriptor
};

inline constexpr std::array k_all_features = {
    feature::pidfd_exit_info, feature::close_range_unshare, feature::clone_into_cgroup,
    feature::cgroup_kill,     feature::pidfd_signal_group,  feature::execveat,
};

struct feature_text {
    std::string_view name;      // "pidfd_exit_info"
    std::string_view since;     // "Linux 6.15"
    std::string_view gives;     // what works with it
    std::string_view fallback;  // what happens without it
};
const feature_text& describe(feature f) noexcept;

class feature_set {
public:
    [[nodiscard]] bool has(feature f) const noexcept { return (bits_ >> index(f) & 1U) != 0; }
    void set(feature f, bool on = true) noexcept {
        bits_ = on ? bits_ | 1U << index(f) : bits_ & ~(1U << index(f));
    }
    [[nodiscard]] std::vector<std::string> names() const;

private:
    static unsigned index(feature f) noexcept { return static_cast<unsigned>(f); }
    std::uint32_t bits_ = 0;
};

// Probes, and takes away what the environment variable names; a name it does not
// know is added to `unknown` if given. Creates one short-lived process, so only
// the forkserver calls it: clients, which never fork, learn it from its hello.
feature_set probe_features(std::vector<std::string>* unknown = nullptr);

// True when the environment variable names `f`.
bool disabled_by_environment(feature f);

}  // namespace cleanfork::ipc
