// spawn: runs a program in the foreground, or leaves it running.
#include <unistd.h>

#include <boost/asio/io_context.hpp>

#include "client/cli/commands/ask.hpp"
#include "client/cli/commands/commands.hpp"
#include "client/cli/commands/detach.hpp"
#include "client/cli/commands/errors.hpp"
#include "client/cli/commands/servers.hpp"
#include "client/cli/foreground/job.hpp"
#include "client/cli/foreground/runner.hpp"
#include "client/cli/options/arguments.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/options/spawn_arguments.hpp"
#include "client/cli/reports/spawn_report.hpp"

namespace cleanfork::cli {

namespace {

manual spawn_manual() {
    return {
        .command = "spawn",
        .usage = "[OPTION]... [--] COMMAND [ARG]...",
        .description =
            "Runs COMMAND in a clean process of a forkserver, waits for it, forwards signals, "
            "and\nexits with its status. The child has the descriptors 0, 1 and 2 and those "
            "given with\n--fd: nothing else.",
        .examples =
            "  cleanfork spawn -E LANG=C -C /tmp sort -u names\n"
            "  cleanfork spawn --timeout 10s --kill-after 2s -- make check\n"
            "  cleanfork spawn --rlimit as=2G --nice 10 --cpus 0,2-3 ./simulate\n"
            "  cleanfork spawn --fd 3 --fd 5:4 ./worker 3<input 5>output\n"
            "  cleanfork spawn -t top\n"
            "  cleanfork spawn -d ./server >server.log 2>&1\n"
            "  cleanfork spawn -d --restart on-failure --stdout log --rotate-size 10M ./server\n"
            "\n"
            "Exit status: that of COMMAND; 128+N when it died of signal N; 124 timed out;\n"
            "125 cleanfork failed; 126 COMMAND cannot be run; 127 COMMAND not found.\n",
        .usage_exit = k_exit_failed};
}

spawn_request parse_spawn(const words& args, const closed_streams& streams) {
    arguments form(spawn_manual());
    spawn_arguments a;
    form.ends_with_command();
    a.add_to(form, subject::program);
    form.parse(args);
    const words& command = form.words();
    if (command.empty() || command.front().empty()) form.refuse("COMMAND is missing");
    a.request.options.program = command.front();
    a.request.options.args.assign(command.begin() + 1, command.end());
    form.refuse_if(a.settle(streams));
    return std::move(a.request);
}

// A child that this command leaves behind is nothing to a terminal.
bool belongs_in_job(const spawn_request& r) {
    return r.usual_group && !r.detach && !r.options.lifetime.keep && has_terminal();
}

// As a command that the shell itself had started: in our group, and with what that ignores.
void put_in_job(spawn_request& r) {
    r.in_job = true;
    r.options.group = {process_group::kind::join, ::getpgrp()};
    r.options.lifetime.target = signal_target::process;
    r.options.ignored_signals = ignored_job_signals();
}

// In the foreground. Of a forkserver that happens to serve the default socket a child is wanted
// only if it becomes what it would be without one: else `why` is set, and nothing was begun.
int run_with(const chosen_server& server, boost::asio::io_context& io, const spawn_request& request,
             const spawn_report& report, std::optional<failure>* why) {
    runner foreground(io, server.client, server.socket, request, report,
                      [&server](const spawn_options& options, runner::handler started) {
                          server.client.async_spawn(options, std::move(started));
                      });
    if (why != nullptr) foreground.keep_other_identity();
    const int code = foreground.run();
    if (why != nullptr) *why = foreground.other_identity();
    return code;
}

int run(spawn_request& request, const spawn_report& report, bool only_private) {
    boost::asio::io_context io(1);
    const auto begun = std::chrono::steady_clock::now();
    const bool in_job = belongs_in_job(request);
    const chosen_server server =
        choose_server(io.get_executor(), {request.socket, only_private, in_job});
    if (!server.note.empty()) report.note(server.note);
    report.server(server.client, server.socket, std::chrono::steady_clock::now() - begun);
    if (in_job && server.same_session) put_in_job(request);
    if (!request.detach) {
        const bool by_chance = !request.socket && !server.socket.empty();
        std::optional<failure> why;
        const int code = run_with(server, io, request, report, by_chance ? &why : nullptr);
        if (!why) return code;
        report.note("not the forkserver at " + server.socket + ": " + why->object +
                    "; using a private one");
        return run(request, report, true);
    }
    if (!server.socket.empty())
        leave_running(report, [&] {
            return ask<process>(io, server.client, server.socket, [&](auto done) {
                server.client.async_spawn(request.options, std::move(done));
            });
        });
    report.error("no forkserver answers at " + default_socket_path() +
                 ", and a private one would end with this command: --detach needs `cleanfork "
                 "serve` to run");
    return k_exit_failed;
}

}  // namespace

int spawn_command(const words& args, const closed_streams& streams) {
    spawn_request request = parse_spawn(args, streams);
    const spawn_report report(request);
    const auto tell = [&](const failure& f) {
        if (request.socket && f.step == step::hello)
            return report.error(explain(f, request.socket));
        report.failed(f);
    };
    return told({.tell = tell,
                 .tell_other = [&](const std::string& why) { report.error(why); },
                 .code = &exit_code_of},
                [&] { return run(request, report, request.only_private); });
}

}  // namespace cleanfork::cli
