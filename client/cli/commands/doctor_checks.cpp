// cleanfork itself, and what its forkserver found out about the kernel.
#include "client/cli/commands/doctor_checks.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

#include "client/cli/commands/servers.hpp"
#include "client/cli/options/values.hpp"

namespace cleanfork::cli {

namespace {

struct feature_text {
    std::string_view name, since, gives, without;
};

// By the names of server_info::features.
constexpr std::array<feature_text, 6> k_features{{
    {"pidfd_exit_info", "Linux 6.15", "exact exit statuses even when the forkserver was killed",
     "after the loss of the forkserver a status is unknown"},
    {"close_range_unshare", "Linux 5.9", "a spawn costs the same however many children there are",
     "each spawn copies the forkserver's descriptor table"},
    {"clone_into_cgroup", "Linux 5.7", "children are born in their cgroup",
     "a child moves to its cgroup before it runs the program"},
    {"cgroup_kill", "Linux 5.14, a cgroup in a mounted cgroup v2", "a cgroup is killed at once",
     "the processes of a cgroup are killed one by one"},
    {"pidfd_signal_group", "Linux 6.9", "a process group is signalled after its leader has ended",
     "a process group is signalled only while its leader lives"},
    {"execveat", "Linux 3.19", "programs can be given by descriptor",
     "a program given by descriptor fails with step exec, ENOSYS"},
}};

finding check_daemon() {
    const std::string path = find_daemon();
    if (path.empty())
        return {"cleanforkd", verdict::missing, "not beside this program, not in PATH",
                "install it, or set CLEANFORK_DAEMON to its path"};
    if (::access(path.c_str(), X_OK) != 0)
        return {"cleanforkd", verdict::missing, path + " cannot be run",
                "correct CLEANFORK_DAEMON, or the mode of the file"};
    return {"cleanforkd", verdict::ok, path, {}};
}

// Starts a private forkserver and runs a program with it, as `spawn` would.
finding try_private(trial& t) {
    using clock = std::chrono::steady_clock;
    finding f{"private forkserver", verdict::ok, {}, {}};
    try {
        const auto begun = clock::now();
        const client c = launch();
        t.features = c.server().features;
        const auto launched = clock::now();
        const process child = c.spawn({.program = "/bin/true"}, std::chrono::seconds(10));
        const auto status = child.wait_for(std::chrono::seconds(10));
        const auto done = clock::now();
        if (!status || !status->success()) {
            f.how = verdict::missing;
            f.text = "/bin/true " + (status ? status->to_string() : "did not end within 10 s");
            f.remedy = "try `cleanfork spawn --private -v /bin/true`";
            return f;
        }
        t.spawn_works = true;
        f.text = "started in " + show_duration(launched - begun) + ", ran /bin/true in " +
                 show_duration(done - launched);
    } catch (const spawn_error& e) {
        f.how = verdict::missing;
        f.text = e.what();
        f.remedy = "step " + std::string(to_string(e.step())) + " failed: see docs/errors.md";
    }
    return f;
}

finding check_running(trial& t) {
    const std::string path = default_socket_path();
    finding f{"running forkserver", verdict::ok, {}, {}};
    try {
        const client c = connect({.path = path, .timeout = std::chrono::seconds(2)});
        if (!t.features) t.features = c.server().features;
        f.text = "answers at " + path + ", pid " + std::to_string(c.server().pid) + ", version " +
                 c.server().version;
        if (c.server().version != CLEANFORK_VERSION) {
            f.how = verdict::warning;
            f.text += ", but this command is version " CLEANFORK_VERSION;
            f.remedy = "restart it: `cleanfork shutdown`, then `cleanfork serve`";
        }
    } catch (const spawn_error& e) {
        if (e.error_number() == ENOENT || e.error_number() == ECONNREFUSED) {
            f.text = "none at " + path + ": `cleanfork spawn` uses private ones";
        } else {
            f.how = verdict::warning;
            f.text = e.what();
            f.remedy = "end what listens at " + path + ", or set CLEANFORK_SOCKET";
        }
    }
    return f;
}

}  // namespace

trial try_cleanfork() {
    trial t;
    t.findings.push_back(check_daemon());
    t.findings.push_back(try_private(t));
    t.findings.push_back(check_running(t));
    return t;
}

std::vector<finding> check_kernel(const std::optional<std::vector<std::string>>& features) {
    std::vector<finding> findings;
    for (const feature_text& known : k_features) {
        finding f{std::string(known.name), verdict::ok, std::string(known.gives), {}};
        if (!features) {
            f.how = verdict::warning;
            f.text = "not known: no forkserver could be started that would try it";
        } else if (std::find(features->begin(), features->end(), known.name) == features->end()) {
            f.how = verdict::missing;
            f.text = known.without;
            f.remedy = "needs " + std::string(known.since) +
                       ", and not to be named in CLEANFORK_DISABLE_FEATURES";
        }
        findings.push_back(std::move(f));
    }
    return findings;
}

}  // namespace cleanfork::cli
