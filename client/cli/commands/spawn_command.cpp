#include <boost/asio/io_context.hpp>

#include "client/cli/commands/commands.hpp"
#include "client/cli/commands/detach.hpp"
#include "client/cli/commands/servers.hpp"
#include "client/cli/foreground/runner.hpp"
#include "client/cli/options/arguments.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/options/spawn_request.hpp"
#include "client/cli/reports/spawn_report.hpp"

namespace cleanfork::cli {

namespace {

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
    const auto parsed_request = parse_spawn(args, streams);
    if (const int* code = std::get_if<int>(&parsed_request)) return *code;
    const auto& request = std::get<spawn_request>(parsed_request);
    const spawn_report report(request);
    try {
        return run(request, report);
    } catch (const spawn_error& e) {
        report.failed(e.why());
        return exit_code_of(e.why());
    } catch (const std::exception& e) {
        report.error(e.what());
        return k_exit_failed;
    }
}

}  // namespace cleanfork::cli
