// ps, kill and wait: about children of any session of this user.
#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
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

std::string show_status(const child_info& child) {
    if (child.begins_in) {
        std::string text = "beginning, in the step " + std::string(to_string(*child.begins_in));
        return child.given_up ? text + ", given up" : text;
    }
    std::string text = child.status       ? child.status->to_string()
                       : child.restart_in ? "restarts in " + show_duration(*child.restart_in)
                       : child.leased     ? "leased"
                                          : "running";
    if (child.restarts != 0) text += ", restarts: " + std::to_string(child.restarts);
    if (child.last_status && !child.status) text += ", last " + child.last_status->to_string();
    return text;
}

row describe(const child_info& child) {
    return {child.child != 0 ? std::to_string(child.child) : "-",
            std::to_string(child.pid),
            child.session != 0 ? std::to_string(child.session) : "-",
            show_age(child.age),
            show_status(child),
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
};

// Waits for all at once, so that neither one that runs nor one that does not exist hides
// another, and tells their ends in the order in which they were named.
class many_waits {
public:
    many_waits(const wait_request& request, const server_arguments& server)
        : request_(request), server_(server), ends_(request.children.size()) {}

    // The exit code.
    int run() {
        const client joined = join_server(io_.get_executor(), server_.socket);
        boost::asio::steady_timer timer(io_);
        for (std::size_t i = 0; i < ends_.size(); ++i)
            joined.async_wait(request_.children[i],
                              [this, i](const std::exception_ptr& error, wait_result end) {
                                  ends_[i].failed = error;
                                  ends_[i].result = std::move(end);
                                  ends_[i].known = true;
                                  tell_known();
                              });
        if (request_.timeout) {
            timer.expires_after(*request_.timeout);
            timer.async_wait([this](const boost::system::error_code& ec) {
                if (!ec) io_.stop();
            });
        }
        server_watch watch(io_, joined, [this, &joined] {
            silence_ = silence_of(joined, server_.socket.value_or(default_socket_path()));
            io_.stop();
        });
        watch.start();
        io_.run();
        return tell_rest();
    }

private:
    struct end_of_one {
        bool known = false;
        std::exception_ptr failed;
        wait_result result;
    };

    void tell_known() {
        for (; told_ < ends_.size() && ends_[told_].known; ++told_) tell(told_);
        if (told_ == ends_.size()) io_.stop();
    }

    int tell_rest() {
        bool late = false;
        for (; told_ < ends_.size(); ++told_) {
            if (ends_[told_].known) {
                tell(told_);
                continue;
            }
            late = !silence_;
            failed(told_,
                   silence_.value_or(failure{step::wait, ETIMEDOUT, {}, "the child still runs"}));
        }
        if (late) return k_exit_timed_out;
        if (failed_) return k_exit_failed;
        if (ends_.size() == 1) return ends_.front().result.status.shell_code();
        return all_good_ ? k_exit_ok : k_exit_error;
    }

    void tell(std::size_t i) {
        if (ends_[i].failed) return failed(i, failure_of(ends_[i].failed));
        const std::uint64_t child = request_.children[i];
        const wait_result& end = ends_[i].result;
        all_good_ = all_good_ && end.status.success();
        if (!server_.json)
            return print(std::to_string(child) + " " + end.status.to_string() +
                         (end.error.empty() ? "" : ", by an exception: " + printable(end.error)));
        json j = {{"child", child}};
        j.update(status_json(end.status));
        j["wall-seconds"] = seconds(end.wall);
        j["usage"] = usage_json(end.usage);
        if (!end.error.empty()) j["exception"] = end.error;
        print(to_line(j));
    }

    void failed(std::size_t i, const failure& why) {
        failed_ = true;
        const std::uint64_t child = request_.children[i];
        say("child " + std::to_string(child) + ": " + explain(why, server_.socket));
        if (server_.json) print(to_line({{"child", child}, {"error", failure_json(why)}}));
    }

    const wait_request& request_;
    const server_arguments& server_;
    boost::asio::io_context io_{1};
    std::vector<end_of_one> ends_;
    std::size_t told_ = 0;            // how many of them, from the first
    std::optional<failure> silence_;  // of the forkserver, which ended the wait
    bool failed_ = false, all_good_ = true;
};

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
        const std::vector<child_info> children = join_server(server.socket).list(k_patience);
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
                                "  cleanfork kill -s HUP --group 3\n"
                                "  cleanfork kill -9 --tree 3\n",
                    .usage_exit = k_exit_usage});
    server_arguments server;
    int number = SIGTERM;
    bool group = false, cgroup = false, tree = false;
    std::vector<std::uint64_t> children;
    form.value(
        "-s,--signal", "SIGNAL", [](const std::string& text) { return parse_signal(text, true); },
        [&number](int n) { number = n; }, "Name or number; 0 only checks that the child exists");
    form.flag("--group", group, "To the child's process group");
    form.flag("--cgroup", cgroup, "To all of the child's cgroup");
    form.flag("--tree", tree, "To it and all its descendants (spawned with --tree)");
    server.add_to(form);
    add_children(form, children);
    form.parse(with_signal_option(args));
    add_other_children(form, children);
    if (group + cgroup + tree > 1) form.refuse("--group, --cgroup and --tree exclude each other");
    const signal_target target = group    ? signal_target::group
                                 : cgroup ? signal_target::cgroup
                                 : tree   ? signal_target::tree
                                          : signal_target::process;
    return told(about_server(server.socket), [&] {
        const client joined = join_server(server.socket);
        int code = k_exit_ok;
        // Once for all: with a forkserver that hangs, each would have its own otherwise.
        const auto give_up = std::chrono::steady_clock::now() + k_patience;
        json results = json::array();
        for (const std::uint64_t child : children) {
            json result = {{"child", child}, {"signal", number}};
            // The others still get theirs.
            error_manner manner = about_server(server.socket);
            manner.tell = [&](const failure& f) {
                say("child " + std::to_string(child) + ": " + explain(f, server.socket));
                result["error"] = failure_json(f);
            };
            const int one = told(manner, [&] {
                const std::chrono::nanoseconds left = give_up - std::chrono::steady_clock::now();
                joined.signal(child, number, target, std::max(left, std::chrono::nanoseconds(0)));
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
        "Give up after this long for all, with exit status 124");
    server.add_to(form);
    add_children(form, request.children);
    form.parse(args);
    add_other_children(form, request.children);
    return told(about_server(server.socket), [&] { return many_waits(request, server).run(); });
}

}  // namespace cleanfork::cli
