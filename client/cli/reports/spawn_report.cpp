#include "client/cli/reports/spawn_report.hpp"

#include <sys/stat.h>

#include <csignal>
#include <cstdio>

#include "client/cli/options/values.hpp"
#include "client/cli/reports/json_forms.hpp"
#include "client/cli/reports/output.hpp"
#include "client/cli/reports/text_table.hpp"
#include "ipc/base/fd.hpp"

namespace cleanfork::cli {

namespace {

json identity(const process& child) {
    json j = {{"child", child.child_id()}, {"pid", child.id()}};
    if (child.tree() != tree_means::none) j["tree"] = to_string(child.tree());
    return j;
}

std::string show_usage(const resource_usage& u) {
    return "user " + show_duration(u.user) + ", system " + show_duration(u.system) + ", " +
           std::to_string(u.max_rss_kib) + " KiB at most, " + std::to_string(u.major_faults) +
           " major faults";
}

std::int64_t size_of(const unique_fd& file) {
    struct stat about {};
    return ::fstat(file.get(), &about) == 0 ? about.st_size : 0;
}

// Worth a line: nobody asked for it, and the exit code alone does not say it.
bool surprising(const child_end& end) {
    if (!end.status.is_signaled() || end.expected) return false;
    switch (end.status.signal()) {
        case SIGINT:
        case SIGPIPE:
        case SIGTERM:
        case SIGHUP: return false;
        default: return true;
    }
}

}  // namespace

void spawn_report::note(const std::string& line) const {
    if (!request_.quiet) say(line);
}

void spawn_report::detail(const std::string& line) const {
    if (request_.verbose) say(line);
}

void spawn_report::server(const cleanfork::client& client, const std::string& socket,
                          std::chrono::nanoseconds time) const {
    const server_info& about = client.server();
    detail((socket.empty() ? std::string("private forkserver") : "forkserver at " + socket) +
           ", pid " + std::to_string(about.pid) + ", version " + about.version + ", in " +
           show_duration(time));
}

void spawn_report::started(const process& child, std::chrono::nanoseconds time) const {
    detail("child " + std::to_string(child.child_id()) + ", pid " + std::to_string(child.id()) +
           ", spawned in " + show_duration(time) +
           (child.tree() != tree_means::none ? ", its tree by " + to_string(child.tree()) : ""));
    status_line(to_line(identity(child)));
}

void spawn_report::detached(const process& child) const {
    // Standard output is ours, unless the child has it.
    std::FILE* const out = std::holds_alternative<stdio::inherit>(request_.options.out) ||
                                   std::holds_alternative<stdio::descriptor>(request_.options.out)
                               ? stderr
                               : stdout;
    if (out == stderr && request_.quiet && !request_.json) return;
    const std::string line =
        request_.json ? to_line(identity(child))
                      : std::to_string(child.child_id()) + " " + std::to_string(child.id());
    std::fprintf(out, "%s\n", line.c_str());
}

void spawn_report::ended(const process& child, const child_end& end) const {
    const std::string who =
        "child " + std::to_string(child.child_id()) + " (pid " + std::to_string(child.id()) + ") ";
    if (request_.verbose)
        say(who + end.status.to_string() + ", ran " + show_duration(end.wall) + ", known after " +
            show_duration(end.turnaround) + ", " + show_usage(end.usage));
    else if (surprising(end))
        note(who + end.status.to_string());
    // The child writes it itself, to its own standard error.
    if (!end.exception.empty() && !std::holds_alternative<stdio::inherit>(request_.options.err))
        say("the entry ended with an exception: " + printable_lines(end.exception));

    json result = identity(child);
    result.update(status_json(end.status));
    result["timed-out"] = end.timed_out;
    result["wall-seconds"] = seconds(end.wall);
    result["usage"] = usage_json(end.usage);
    if (!end.exception.empty()) result["exception"] = end.exception;
    if (end.answer) result["result-bytes"] = size_of(end.answer);
    status_line(to_line(result));
    if (request_.json) std::fprintf(stderr, "%s\n", to_line(result).c_str());
}

void spawn_report::failed(const failure& f) const {
    say(f.message());
    const std::string line = to_line({{"error", failure_json(f)}});
    status_line(line);
    if (request_.json) std::fprintf(stderr, "%s\n", line.c_str());
}

void spawn_report::error(const std::string& why) const {
    say(why);
    const std::string line = to_line({{"error", {{"message", why}}}});
    status_line(line);
    if (request_.json) std::fprintf(stderr, "%s\n", line.c_str());
}

void spawn_report::status_line(const std::string& line) const {
    if (!request_.json_status_fd) return;
    // SIGPIPE is ignored; a reader that has gone away does not concern the child.
    ipc::write_all(*request_.json_status_fd, line + "\n");
}

}  // namespace cleanfork::cli
