// stats and shutdown: about a forkserver as a whole.
#include <fcntl.h>

#include <cleanfork/client.hpp>
#include <cstdio>

#include "client/cli/commands/commands.hpp"
#include "client/cli/commands/errors.hpp"
#include "client/cli/commands/servers.hpp"
#include "client/cli/options/arguments.hpp"
#include "client/cli/options/command_error.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/options/values.hpp"
#include "client/cli/reports/json_forms.hpp"
#include "client/cli/reports/text_table.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/process_ref.hpp"

namespace cleanfork::cli {

namespace {

std::vector<row> stats_rows(const server_stats& s) {
    const auto mean = s.spawned_total != 0
                          ? s.spawn_time_total / static_cast<std::int64_t>(s.spawned_total)
                          : std::chrono::nanoseconds(0);
    const auto n = [](std::uint64_t number) { return std::to_string(number); };
    return {{"pid", std::to_string(s.pid)},
            {"version", printable(s.version)},
            {"instance", printable(s.instance)},
            {"uptime", show_age(s.uptime)},
            {"sessions", n(s.sessions)},
            {"sessions in all", n(s.sessions_total)},
            {"children", n(s.children)},
            {"statuses kept", n(s.statuses)},
            {"spawns queued", n(s.queued)},
            {"spawned in all", n(s.spawned_total)},
            {"failed in all", n(s.failed_total)},
            {"exited in all", n(s.exited_total)},
            {"protocol errors", n(s.protocol_errors_total)},
            {"quota refusals", n(s.quota_refusals_total)},
            {"descriptors", n(s.descriptors)},
            {"resident memory", n(s.rss_kib) + " KiB"},
            {"mean spawn time", show_duration(mean)},
            {"longest spawn time", show_duration(s.spawn_time_max)},
            {"longest turn", show_duration(s.turn_time_max)}};
}

// A pidfd of the forkserver, or nothing when `pid` means another process here,
// as in another pid namespace.
unique_fd watch_daemon(pid_t pid) {
    unique_fd pidfd = ipc::pidfd_open(pid);
    return is_a_forkserver(pid) ? std::move(pidfd) : unique_fd();
}

// Its children have their grace, which may be long; a forkserver that is stopped never ends.
void await_end(const unique_fd& pidfd, pid_t pid, const std::string& name) {
    constexpr auto k_slice = std::chrono::milliseconds(k_patience);
    for (bool told = false;; told = true) {
        if (ipc::pidfd_wait(pidfd.get(), ipc::pidfd_event::ended, k_slice.count())) return;
        if (is_stopped(pid))
            throw command_error(name + " does not end: it is stopped", k_exit_error);
        if (!told) say("waiting for " + name + " to end: its children have their grace");
    }
}

}  // namespace

int stats_command(const words& args, const closed_streams&) {
    arguments form({.command = "stats",
                    .usage = "[OPTION]...",
                    .description = "Shows the figures of a forkserver.",
                    .examples = "  cleanfork stats\n  cleanfork stats --json | jq .children\n",
                    .usage_exit = k_exit_usage});
    server_arguments server;
    server.add_to(form);
    form.parse(args);
    return told(about_server(server.socket), [&] {
        const server_stats stats = join_server(server.socket).stats(k_patience);
        if (server.json)
            print(to_line(stats_json(stats)));
        else
            std::fputs(table(stats_rows(stats), {}, output_width()).c_str(), stdout);
        return k_exit_ok;
    });
}

int shutdown_command(const words& args, const closed_streams&) {
    arguments form({.command = "shutdown",
                    .usage = "[OPTION]...",
                    .description =
                        "Ends a forkserver. Each child meets its lifetime: it is kept, or gets its "
                        "signal and,\nafter its grace, SIGKILL. Returns when the forkserver has "
                        "ended.",
                    .examples = "  cleanfork shutdown\n  cleanfork shutdown --no-wait\n",
                    .usage_exit = k_exit_usage});
    server_arguments server;
    bool no_wait = false;
    form.flag("--no-wait", no_wait, "Return once the forkserver has agreed to end");
    server.add_to(form);
    form.parse(args);
    return told(about_server(server.socket), [&] {
        unique_fd pidfd;
        pid_t pid = 0;
        std::string name;
        {
            const client joined = join_server(server.socket);
            pid = joined.server().pid;
            name = name_of_server(joined, server.socket.value_or(default_socket_path()));
            // Before it is asked to end: afterwards the number may be another's.
            if (!no_wait) pidfd = watch_daemon(pid);
            joined.shutdown(k_patience);
        }
        if (pidfd) await_end(pidfd, pid, name);
        if (server.json) print(to_line({{"pid", pid}, {"ended", static_cast<bool>(pidfd)}}));
        return k_exit_ok;
    });
}

}  // namespace cleanfork::cli
