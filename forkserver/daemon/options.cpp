#include "forkserver/daemon/options.hpp"

#include <CLI/CLI.hpp>

namespace cleanfork::daemon {

std::optional<int> parse(int argc, char** argv, options& o) {
    CLI::App app{"The forkserver of cleanfork: hands out fresh processes over a Unix socket."};
    app.set_version_flag("--version", "cleanforkd " CLEANFORK_VERSION);
    std::string level;
    app.add_option("--socket", o.socket,
                   "Path of the socket to serve (default: $CLEANFORK_SOCKET, or below "
                   "$XDG_RUNTIME_DIR or /run)");
    app.add_option("--private-fd", o.private_fd,
                   "Serve one client over this inherited socket, and end with it");
    // Of cleanfork::launch(), which starts this below a process that reaps it.
    app.add_flag("--stay", o.stay, "")->group("");
    // Of cleanfork::start_early(), which forks the template and then execs this.
    auto* early = app.add_option("--early-fd", o.early_fd, "")->group("");
    app.add_option("--early-pid", o.early_pid, "")->group("")->needs(early);
    app.add_option("--early-name", o.early_name, "")->group("")->needs(early);
    app.add_option("--log-level", level, "debug, info, warning or error")
        ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
    const auto quota = [&app](const char* name, std::size_t& most, const char* text) {
        app.add_option(name, most, text)->check(CLI::PositiveNumber);
    };
    quota("--max-sessions", o.quotas.sessions_per_uid, "Sessions at a time");
    quota("--max-children", o.quotas.children_per_session,
          "Children of one session, with unacknowledged statuses");
    quota("--max-queued", o.quotas.queued_per_session, "Spawns queued by one session");
    quota("--max-queued-bytes", o.quotas.queued_bytes_per_session,
          "Bytes of spawns queued by one session");
    quota("--max-queued-descriptors", o.quotas.queued_descriptors_per_session,
          "Descriptors of spawns queued by one session");
    quota("--max-user-children", o.quotas.children_per_user, "Children of all sessions together");
    quota("--max-user-queued", o.quotas.queued_per_user, "Spawns queued by all sessions together");
    quota("--max-user-descriptors", o.quotas.queued_descriptors_per_user,
          "Descriptors of spawns queued by all sessions together");
    quota("--max-user-memory", o.quotas.memory_per_user,
          "Bytes of memory that requests and bases of all sessions take");
    quota("--max-unclaimed", o.quotas.unclaimed_statuses,
          "Statuses kept of children that outlived their session");
    app.add_option("--lease-idle", o.lease_idle_ms,
                   "Milliseconds after which a leased child that nobody has called is taken back")
        ->check(CLI::PositiveNumber);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? 0 : 2;
    }
    // A private forkserver has nobody who reads lines about its one session.
    if (o.private_fd >= 0) o.least = log_level::warning;
    if (level == "debug") o.least = log_level::debug;
    if (level == "info") o.least = log_level::info;
    if (level == "warning") o.least = log_level::warning;
    if (level == "error") o.least = log_level::error;
    return std::nullopt;
}

}  // namespace cleanfork::daemon
