// ps, kill and wait: about children of any session of this user.
#include <cleanfork/client.hpp>
#include <cstdio>
#include <limits>

#include "client/cli/commands/commands.hpp"
#include "client/cli/commands/errors.hpp"
#include "client/cli/commands/servers.hpp"
#include "client/cli/options/arguments.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/options/values.hpp"
#include "client/cli/reports/json_forms.hpp"
#include "client/cli/reports/text_table.hpp"

namespace cleanfork::cli {

namespace {

parsed<std::uint64_t> parse_child(std::string_view text) {
    const auto number = parse_integer(text, 1, std::numeric_limits<long long>::max());
    if (!number)
        return bad_value{"\"" + std::string(text) +
                         "\" is not the id of a child, as `cleanfork ps` shows them"};
    return static_cast<std::uint64_t>(*number);
}

// The first one has to be there.
void add_children(arguments& form, std::vector<std::uint64_t>& children) {
    form.positional(
        "ID", parse_child, [&children](std::uint64_t id) { children.push_back(id); },
        "Of `cleanfork ps`");
    form.ends_with_words();
}

void add_other_children(const arguments& form, std::vector<std::uint64_t>& children) {
    for (const std::string& text : form.words()) {
        const auto child = parse_child(text);
        if (!child) form.refuse("ID: " + child.error().why);
        children.push_back(*child);
    }
}

row describe(const child_info& child) {
    return {std::to_string(child.child),
            std::to_string(child.pid),
            child.session != 0 ? std::to_string(child.session) : "-",
            show_age(child.age),
            child.status ? child.status->to_string() : "running",
            printable(child.command)};
}

// `-9`, `-KILL` and `-SIGKILL` are what fingers type for `-s KILL`.
words with_signal_option(const words& args) {
    words expanded;
    for (const std::string& a : args) {
        const bool option = a.size() > 1 && a.front() == '-' && a != "-s" && a[1] != '-';
        if (option && parse_signal(a.substr(1), true)) {
            expanded.emplace_back("-s");
            expanded.push_back(a.substr(1));
        } else {
            expanded.push_back(a);
        }
    }
    return expanded;
}

struct wait_request {
    std::vector<std::uint64_t> children;
    std::optional<std::chrono::nanoseconds> timeout;
    bool json = false;
};

// One status as a line; its exit code for the shell.
int wait_for_one(const client& server, std::uint64_t child, const wait_request& request) {
    const wait_result end = server.wait(child, request.timeout);
    if (request.json) {
        json j = {{"child", child}};
        j.update(status_json(end.status));
        j["wall-seconds"] = seconds(end.wall);
        j["usage"] = usage_json(end.usage);
        if (!end.error.empty()) j["exception"] = end.error;
        print(to_line(j));
    } else {
        print(std::to_string(child) + " " + end.status.to_string() +
              (end.error.empty() ? "" : ", by an exception: " + printable(end.error)));
    }
    return end.status.shell_code();
}

}  // namespace

int ps_command(const words& args, const closed_streams&) {
    arguments form({.command = "ps",
                    .usage = "[OPTION]...",
                    .description = "Lists the children of a forkserver: those that run, and those "
                                   "that ended and whose\nstatus nobody has collected yet.",
                    .examples = "  cleanfork ps\n  cleanfork ps --json | jq '.[].pid'\n",
                    .usage_exit = k_exit_usage});
    server_arguments server;
    server.add_to(form);
    form.parse(args);
    return told(about_server(server.socket), [&] {
        const std::vector<child_info> children = join_server(server.socket).list();
        if (server.json) {
            json all = json::array();
            for (const child_info& child : children) all.push_back(child_json(child));
            print(to_line(all));
            return k_exit_ok;
        }
        std::vector<row> rows{{"ID", "PID", "SESSION", "AGE", "STATUS", "COMMAND"}};
        for (const child_info& child : children) rows.push_back(describe(child));
        std::fputs(table(rows, {0, 1, 2}, output_width()).c_str(), stdout);
        return k_exit_ok;
    });
}

int kill_command(const words& args, const closed_streams&) {
    arguments form({.command = "kill",
                    .usage = "[OPTION]... ID...",
                    .description = "Sends children a signal, SIGTERM by default.",
                    .examples = "  cleanfork kill 3\n"
                                "  cleanfork kill -9 3 4\n"
                                "  cleanfork kill -s HUP --group 3\n",
                    .usage_exit = k_exit_usage});
    server_arguments server;
    int number = SIGTERM;
    bool group = false, cgroup = false;
    std::vector<std::uint64_t> children;
    form.value(
        "-s,--signal", "SIGNAL", [](const std::string& text) { return parse_signal(text, true); },
        [&number](int n) { number = n; }, "Name or number; 0 only checks that the child exists");
    form.flag("--group", group, "To the child's process group");
    form.flag("--cgroup", cgroup, "To all of the child's cgroup");
    server.add_to(form);
    add_children(form, children);
    form.parse(with_signal_option(args));
    add_other_children(form, children);
    if (group && cgroup) form.refuse("--group and --cgroup exclude each other");
    const signal_target target = group    ? signal_target::group
                                 : cgroup ? signal_target::cgroup
                                          : signal_target::process;
    return told(about_server(server.socket), [&] {
        const client joined = join_server(server.socket);
        int code = k_exit_ok;
        json results = json::array();
        for (const std::uint64_t child : children) {
            json result = {{"child", child}, {"signal", number}};
            // The others still get theirs.
            error_manner manner = about_server(server.socket);
            manner.tell = [&](const failure& f) {
                say("child " + std::to_string(child) + ": " + f.message());
                result["error"] = failure_json(f);
            };
            const int one = told(manner, [&] {
                joined.signal(child, number, target);
                return k_exit_ok;
            });
            if (one != k_exit_ok) code = one;
            results.push_back(std::move(result));
        }
        if (server.json) print(to_line(results));
        return code;
    });
}

int wait_command(const words& args, const closed_streams&) {
    arguments form({.command = "wait",
                    .usage = "[OPTION]... ID...",
                    .description =
                        "Waits until children have ended, and prints how. For one child the exit "
                        "status is\nits own, or 128+N when it died of signal N; for many it is 0 "
                        "when all were\nsuccessful, else 1.",
                    .examples = "  cleanfork wait 3\n  cleanfork wait --timeout 10s 3 4\n",
                    .usage_exit = k_exit_usage});
    server_arguments server;
    wait_request request;
    form.value(
        "--timeout", "DURATION", parse_duration,
        [&request](std::chrono::nanoseconds t) {
            request.timeout = t.count() != 0 ? std::optional(t) : std::nullopt;
        },
        "Give up after this long, with exit status 124");
    server.add_to(form);
    add_children(form, request.children);
    form.parse(args);
    add_other_children(form, request.children);
    request.json = server.json;
    error_manner manner = about_server(server.socket);
    manner.code = [](const failure& f) {
        if (f.step == step::connect) return k_exit_error;
        return f.error_number == ETIMEDOUT ? k_exit_timed_out : k_exit_failed;
    };
    return told(manner, [&] {
        const client joined = join_server(server.socket);
        if (request.children.size() == 1)
            return wait_for_one(joined, request.children.front(), request);
        bool all_good = true;
        for (const std::uint64_t child : request.children)
            all_good = wait_for_one(joined, child, request) == 0 && all_good;
        return all_good ? k_exit_ok : k_exit_error;
    });
}

}  // namespace cleanfork::cli
