// cleanfork itself, and what its forkserver found out about the kernel.
#include "client/cli/commands/doctor_checks.hpp"

#include <algorithm>

#include "client/cli/commands/servers.hpp"
#include "client/cli/options/values.hpp"
#include "ipc/base/features.hpp"
#include "ipc/base/find_daemon.hpp"

namespace cleanfork::cli {

namespace {

diagnosis check_daemon() {
    const auto path = ipc::find_daemon("");
    if (path) return {"cleanforkd", verdict::ok, *path, {}};
    return {"cleanforkd", verdict::missing, path.error().message(),
            "install it, or set CLEANFORK_DAEMON to its path"};
}

// Starts a private forkserver and runs a program with it, as `spawn` would.
diagnosis try_private(trial& t) {
    using clock = std::chrono::steady_clock;
    diagnosis f{"private forkserver", verdict::ok, {}, {}};
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

diagnosis check_running(trial& t) {
    const std::string path = default_socket_path();
    diagnosis f{"running forkserver", verdict::ok, {}, {}};
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
        if (is_absent(e.why())) {
            f.text = "none at " + path + ": `cleanfork spawn` uses private ones";
        } else {
            f.how = verdict::warning;
            f.text = e.what();
            f.remedy = "end what listens at " + path + ", or set CLEANFORK_SOCKET";
        }
    }
    return f;
}

// By the names of server_info::features.
diagnosis check_feature(ipc::feature feature,
                        const std::optional<std::vector<std::string>>& found) {
    const ipc::feature_text& known = ipc::describe(feature);
    diagnosis f{std::string(known.name), verdict::ok, std::string(known.gives), {}};
    if (!found) {
        f.how = verdict::warning;
        f.text = "not known: no forkserver could be started that would try it";
    } else if (std::find(found->begin(), found->end(), known.name) == found->end()) {
        f.how = verdict::missing;
        f.text = known.fallback;
        f.remedy = "needs " + std::string(known.since) +
                   ", and not to be named in CLEANFORK_DISABLE_FEATURES";
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

std::vector<diagnosis> check_kernel(const std::optional<std::vector<std::string>>& features) {
    std::vector<diagnosis> findings;
    for (const ipc::feature f : ipc::k_all_features) findings.push_back(check_feature(f, features));
    return findings;
}

}  // namespace cleanfork::cli
