#include "ipc/base/features.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cerrno>

#include "ipc/base/fd.hpp"
#include "tests/unit/environment_variable.hpp"

using namespace cleanfork::ipc;

TEST_CASE("features are forced off by name, and unknown names are told") {
    const environment_variable v("CLEANFORK_DISABLE_FEATURES",
                                 "execveat,no_such_feature,cgroup_kill");
    CHECK(disabled_by_environment(feature::execveat));
    CHECK(disabled_by_environment(feature::cgroup_kill));
    CHECK_FALSE(disabled_by_environment(feature::pidfd_exit_info));
    std::vector<std::string> unknown;
    const feature_set set = probe_features(&unknown);
    CHECK(unknown == std::vector<std::string>{"no_such_feature"});
    CHECK_FALSE(set.has(feature::execveat));
    CHECK_FALSE(set.has(feature::cgroup_kill));
}

TEST_CASE("probing leaves no process and no descriptor behind") {
    const std::size_t before = open_descriptor_count();
    probe_features();
    CHECK(open_descriptor_count() == before);
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
    CHECK(errno == ECHILD);
}

TEST_CASE("every feature has a name, a kernel, a use and a fallback to show") {
    for (const feature f : k_all_features) {
        CHECK_FALSE(describe(f).name.empty());
        CHECK_FALSE(describe(f).since.empty());
        CHECK_FALSE(describe(f).gives.empty());
        CHECK_FALSE(describe(f).fallback.empty());
    }
}
