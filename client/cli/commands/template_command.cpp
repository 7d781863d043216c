// template: adds, lists, shows, reloads and removes the templates of a forkserver.
#include <array>
#include <cstdio>
#include <string_view>

#include "client/cli/commands/ask.hpp"
#include "client/cli/commands/errors.hpp"
#include "client/cli/commands/servers.hpp"
#include "client/cli/commands/template_commands.hpp"
#include "client/cli/options/command_error.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/reports/json_forms.hpp"
#include "client/cli/reports/template_report.hpp"
#include "client/cli/reports/text_table.hpp"

namespace cleanfork::cli {

namespace {

void add_name(arguments& form, std::string& name) {
    form.positional(
        "NAME", as_is, [&name](std::string given) { name = std::move(given); },
        "Of `cleanfork template list`");
}

int list(const words& args, const closed_streams&) {
    arguments form({.command = "template list",
                    .usage = "[OPTION]...",
                    .description = "Lists the templates of a forkserver.",
                    .examples = "  cleanfork template list --json | jq '.[].name'\n",
                    .usage_exit = k_exit_usage});
    server_arguments server;
    server.add_to(form);
    form.parse(args);
    return with_server(server, [&](const client& joined) {
        const std::vector<template_info> templates = joined.templates(k_patience);
        if (!server.json) {
            std::fputs(template_table(templates).c_str(), stdout);
            return k_exit_ok;
        }
        json all = json::array();
        for (const template_info& t : templates) all.push_back(template_json(t));
        print(to_line(all));
        return k_exit_ok;
    });
}

int show(const words& args, const closed_streams&) {
    arguments form({.command = "template show",
                    .usage = "[OPTION]... NAME",
                    .description = "Shows all about a template: its generations, their memory, the "
                                   "last error, and the\nend of what it wrote to standard error.",
                    .examples = "  cleanfork template show thumbnails\n",
                    .usage_exit = k_exit_usage});
    server_arguments server;
    std::string name;
    server.add_to(form);
    add_name(form, name);
    form.parse(args);
    return with_server(server, [&](const client& joined) {
        const template_info t = joined.template_info(name, k_patience);
        if (server.json)
            print(to_line(template_json(t)));
        else
            std::fputs(template_details(t).c_str(), stdout);
        return k_exit_ok;
    });
}

int reload(const words& args, const closed_streams&) {
    arguments form({.command = "template reload",
                    .usage = "[OPTION]... NAME",
                    .description =
                        "Starts the next generation of a template, from what it was added with, "
                        "and waits until\nit is ready. The old one serves calls until then, and "
                        "goes on if the new one fails.",
                    .examples = "  cleanfork template reload thumbnails\n",
                    .usage_exit = k_exit_usage});
    server_arguments server;
    std::string name;
    bool no_wait = false;
    form.flag("--no-wait", no_wait, "Return when its start was asked for");
    server.add_to(form);
    add_name(form, name);
    form.parse(args);
    return tell_build(server, name, [&](const client& joined, auto done) {
        joined.async_reload_template(name, !no_wait, std::move(done));
    });
}

int remove(const words& args, const closed_streams&) {
    arguments form({.command = "template remove",
                    .usage = "[OPTION]... NAME",
                    .description = "Removes a template. Its children live on.",
                    .examples = "  cleanfork template remove thumbnails\n",
                    .usage_exit = k_exit_usage});
    server_arguments server;
    std::string name;
    server.add_to(form);
    add_name(form, name);
    form.parse(args);
    return with_server(server, [&](const client& joined) {
        joined.remove_template(name, k_patience);
        if (server.json) print(to_line({{"name", name}, {"removed", true}}));
        return k_exit_ok;
    });
}

constexpr std::array<command, 5> k_subcommands{{
    {"add", "Start a template", &template_add_command},
    {"list", "List the templates of a forkserver", &list},
    {"show", "Show all about one", &show},
    {"reload", "Build it anew, without a gap", &reload},
    {"remove", "Remove it", &remove},
}};

void print_template_help() {
    std::printf(
        "Usage: cleanfork template COMMAND [OPTION]...\n"
        "Templates: warmed-up processes from which `cleanfork call` forks children.\n"
        "\nCommands:\n");
    print_summaries(k_subcommands);
    std::printf(
        "\nOptions:\n"
        "  -h, --help  Show this help; `cleanfork template COMMAND --help` shows a command's\n"
        "\nExamples:\n"
        "  cleanfork template add thumbnails --warm 4 -- ./thumbnailer\n"
        "  cleanfork call thumbnails scale --payload-file in.jpg 200 >out.jpg\n"
        "  cleanfork template list\n");
}

}  // namespace

namespace {

error_manner manner_of(const server_arguments& server) {
    error_manner manner = about_server(server.socket);
    if (server.json)
        manner.tell = [tell_line = manner.tell](const failure& f) {
            print(to_line({{"error", failure_json(f)}}));
            tell_line(f);
        };
    return manner;
}

// What the newest generation wrote before it failed; empty when there was none.
std::string last_words(const client& joined, const std::string& name, const failure& why) {
    const bool began = why.step >= step::clone;  // all before that are of the request
    if (!began || why.step == step::template_name || why.step == step::wait) return {};
    const auto now = joined.try_template_info(name, k_patience);
    return now ? now->stderr_tail : "";
}

int tell_failed(const client& joined, const server_arguments& server, const std::string& name,
                const failure& why) {
    const std::string tail = last_words(joined, name, why);
    if (server.json) print(to_line({{"error", failure_json(why)}, {"stderr-tail", tail}}));
    say(printable(why.message()));
    if (!tail.empty())
        say("the end of what " + printable(name) + " wrote:\n" + printable_lines(tail));
    return k_exit_error;
}

}  // namespace

int with_server(const server_arguments& server, const std::function<int(const client&)>& act) {
    return told(manner_of(server), [&] { return act(join_server(server.socket)); });
}

int tell_build(const server_arguments& server, const std::string& name, const build& begin) {
    return told(manner_of(server), [&] {
        boost::asio::io_context io(1);
        const client joined = join_server(io.get_executor(), server.socket);
        try {
            const auto built =
                ask<template_info>(io, joined, server.socket.value_or(default_socket_path()),
                                   [&](auto done) { begin(joined, std::move(done)); });
            print(server.json ? to_line(template_json(built)) : template_summary(built));
            return k_exit_ok;
        } catch (const spawn_error& e) {
            return tell_failed(joined, server, name, e.why());
        }
    });
}

int template_command(const words& args, const closed_streams& streams) {
    if (args.empty())
        throw command_error("template: a command is missing (see `cleanfork template --help`)",
                            k_exit_usage);
    const std::string& name = args.front();
    if (name == "-h" || name == "--help" || name == "help") {
        print_template_help();
        return k_exit_ok;
    }
    if (const command* const named = find(k_subcommands, name))
        return named->run(words(args.begin() + 1, args.end()), streams);
    throw command_error(
        "template: unknown command " + printable(name) + " (see `cleanfork template --help`)",
        k_exit_usage);
}

}  // namespace cleanfork::cli
