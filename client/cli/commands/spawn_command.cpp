// spawn: runs a program in the foreground, or leaves it running.
#include <boost/asio/io_context.hpp>

#include "client/cli/commands/commands.hpp"
#include "client/cli/commands/detach.hpp"
#include "client/cli/commands/errors.hpp"
#include "client/cli/commands/servers.hpp"
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

int run(const spawn_request& request, const spawn_report& report) {
    boost::asio::io_context io(1);
    const auto begun = std::chrono::steady_clock::now();
    const chosen_server server =
        choose_server(io.get_executor(), {request.socket, request.only_private});
    if (!server.note.empty()) report.note(server.note);
    report.server(server.client, server.socket, std::chrono::steady_clock::now() - begun);
    if (!request.detach)
        return runner(io, server.client, request, report,
                      [&server](const spawn_options& options, runner::handler started) {
                          server.client.async_spawn(options, std::move(started));
                      })
            .run();
    if (!server.socket.empty())
        leave_running(report, [&] { return server.client.spawn(request.options); });
    report.error("no forkserver answers at " + default_socket_path() +
                 ", and a private one would end with this command: --detach needs `cleanfork "
                 "serve` to run");
    return k_exit_failed;
}

}  // namespace

int spawn_command(const words& args, const closed_streams& streams) {
    const spawn_request request = parse_spawn(args, streams);
    const spawn_report report(request);
    const auto tell = [&](const failure& f) {
        if (request.socket && f.step == step::hello)
            return report.error(explain(f, request.socket));
        report.failed(f);
    };
    return told({.tell = tell,
                 .tell_other = [&](const std::string& why) { report.error(why); },
                 .code = &exit_code_of},
                [&] { return run(request, report); });
}

}  // namespace cleanfork::cli
