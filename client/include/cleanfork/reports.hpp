// What a forkserver tells of itself and of its children.
//
// Thread-safety: all types here are values.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cleanfork/exit_status.hpp>
#include <cleanfork/spawn_options.hpp>
#include <cleanfork/step.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace cleanfork {

struct server_info {
    std::string instance;  // changes at each start of the forkserver
    std::string version;
    pid_t pid = 0;
    std::uint64_t session = 0;
    std::vector<std::string> features;
};

struct child_info {
    std::uint64_t child = 0;  // 0: it is none yet, see `begins_in`
    pid_t pid = 0;
    std::uint64_t session = 0;  // 0: kept beyond its session
    std::string command;
    std::string template_name;  // of a call
    std::chrono::nanoseconds age{};
    // Its process takes its time to begin its program: the step that it is in.
    std::optional<step> begins_in;
    bool leased = false;    // it waits for a call of its session
    bool given_up = false;  // then: nobody waits for it any more, and it was killed
    bool keep = false;
    tree_means tree = tree_means::none;
    restart_options::policy restart = restart_options::policy::no;
    std::uint64_t restarts = 0;              // so far
    std::optional<exit_status> last_status;  // of the process before this one
    // No process runs now: the next is started after this.
    std::optional<std::chrono::milliseconds> restart_in;
    std::optional<exit_status> status;  // empty while it runs
    resource_usage usage;
    std::chrono::nanoseconds wall{};
    std::string error;  // of a call: the exception its entry ended with
};

// Durations, counted by how long they were.
struct histogram {
    std::vector<std::chrono::nanoseconds> bounds;  // rising
    // How many were at most that bound and above the one before; the last: above all of them.
    std::vector<std::uint64_t> counts;
    std::chrono::nanoseconds sum{};

    [[nodiscard]] std::uint64_t count() const noexcept {
        std::uint64_t all = 0;
        for (const std::uint64_t n : counts) all += n;
        return all;
    }
};

// What a forkserver has measured since its start.
struct server_metrics {
    // From the arrival of a request to the answer that its child has begun: of programs, of calls
    // for which a template forked, and of calls that a warm child took.
    histogram exec, call, warm_call;
    std::uint64_t leased_calls = 0;  // which the client sends to a child itself
    histogram queued;                // until the turn of a request came
    histogram turns;                 // of its loop: what one request keeps all others waiting
    std::vector<std::pair<step, std::uint64_t>> failures;  // of requests, by step
    // Children, by how they ended; of `unknown` ones another process has the status.
    std::uint64_t exited_zero = 0, exited_other = 0, signalled = 0, unknown = 0;
};

struct server_stats {
    pid_t pid = 0;
    std::string version, instance;
    std::chrono::nanoseconds uptime{};
    std::uint64_t sessions = 0, sessions_total = 0;
    std::uint64_t children = 0, statuses = 0, queued = 0;
    std::uint64_t spawned_total = 0, failed_total = 0, exited_total = 0;
    std::uint64_t protocol_errors_total = 0, quota_refusals_total = 0;
    std::uint64_t descriptors = 0, rss_kib = 0;
    std::chrono::nanoseconds spawn_time_total{}, spawn_time_max{};
    // The longest turn of its loop: what one request has kept all others waiting.
    std::chrono::nanoseconds turn_time_max{};
    server_metrics metrics;
};

// Something that has happened in a forkserver: a line of its log, docs/events.md.
struct event {
    std::chrono::system_clock::time_point time;
    std::string level;  // "debug", "info", "warning", "error"
    std::string name;   // "spawned", "exited", "template_ready", ...
    std::vector<std::pair<std::string, std::variant<std::string, std::int64_t>>> fields;
};

struct event_page {
    std::vector<event> events;
    std::uint64_t next = 0;     // what to ask with the next time
    std::uint64_t last = 0;     // there is more when this is above `next`
    std::uint64_t dropped = 0;  // before these: they came faster than they were asked for
};

// What client::run() gathers.
struct run_result {
    exit_status status;
    std::string out;  // of stdio::pipe, or of stdio::pty
    std::string err;
    resource_usage usage;
    std::chrono::nanoseconds wall{};
    pid_t pid = 0;
};

struct wait_result {
    exit_status status{};
    resource_usage usage{};
    std::chrono::nanoseconds wall{};
    std::string error{};  // of a call: the exception its entry ended with
};

}  // namespace cleanfork
