// call: runs an entry of a template in the foreground, as spawn runs a program.
#include <boost/asio/io_context.hpp>

#include "client/cli/commands/ask.hpp"
#include "client/cli/commands/call_files.hpp"
#include "client/cli/commands/commands.hpp"
#include "client/cli/commands/detach.hpp"
#include "client/cli/commands/errors.hpp"
#include "client/cli/commands/servers.hpp"
#include "client/cli/foreground/runner.hpp"
#include "client/cli/options/arguments.hpp"
#include "client/cli/options/command_error.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/options/spawn_arguments.hpp"
#include "client/cli/reports/spawn_report.hpp"

namespace cleanfork::cli {

namespace {

struct call_line {
    spawn_request spawn;
    std::string template_name, entry;
    std::vector<std::string> args;
    payload_source payload;
    result_sink result;
};

manual call_manual() {
    return {.command = "call",
            .usage = "[OPTION]... TEMPLATE ENTRY [--] [ARG]...",
            .description =
                "Runs ENTRY of a template in a child forked from it, waits, forwards signals, "
                "writes its\nresult to standard output, and exits with its status. The child has "
                "the descriptors\n0, 1 and 2 and those given with --fd: nothing else.",
            .examples =
                "  cleanfork call thumbnails scale --payload-file in.jpg 200 >out.jpg\n"
                "  cleanfork call --timeout 5s --nice 10 lint check --fd source=./main.c\n"
                "  tar c . | cleanfork call archive index --payload-file - --json\n"
                "\n"
                "Exit status: that of the entry; 128+N when it died of signal N; 124 timed out;\n"
                "125 cleanfork failed; 127 no such template or entry.\n",
            .usage_exit = k_exit_failed};
}

std::string check(const spawn_arguments& a, const std::optional<std::string>& text,
                  const std::optional<std::string>& file,
                  const std::optional<std::string>& result) {
    if (text && file) return "--payload and --payload-file both say what the payload is";
    if (result && a.request.detach)
        return "--result-file needs this command to wait, and --detach does not";
    if (file == "-" && a.request.pty)
        return "--pty: standard input is the terminal's, so it cannot be the payload";
    return {};
}

call_line parse_call(const words& args, const closed_streams& streams) {
    arguments form(call_manual());
    spawn_arguments a;
    call_line line;
    std::optional<std::string> text, file, result;
    const auto into = [](std::string& value) {
        return [&value](std::string given) { value = std::move(given); };
    };
    form.heading("Call");
    form.positional("TEMPLATE", as_is, into(line.template_name), "As in `cleanfork template list`");
    form.positional("ENTRY", as_is, into(line.entry), "What to run in the child");
    form.ends_with_words();
    form.text("--payload", "STRING", text, "What the entry works on");
    form.text("--payload-file", "FILE", file, "The same from a file (-: standard input)");
    form.text("--result-file", "FILE", result,
              "Where its result goes (default -: standard output)");
    a.add_to(form, subject::entry);
    form.parse(args);
    line.args = form.words();
    form.refuse_if(check(a, text, file, result));
    form.refuse_if(a.settle(streams));
    auto source = payload_source::open(text, file);
    auto sink = result_sink::open(result);
    if (!source || !sink)
        throw command_error(!source ? source.error().why : sink.error().why, k_exit_failed);
    line.spawn = std::move(a.request);
    // Its end was read here: the child would find nothing.
    if (file == "-") line.spawn.options.in = stdio::null{};
    line.payload = std::move(*source);
    line.result = std::move(*sink);
    return line;
}

call_options options_of(const call_line& line, const spawn_options& attributes) {
    return {.args = line.args,
            .fds = line.spawn.named_fds,
            .result = !line.spawn.detach,
            .attributes = attributes};
}

int run(const call_line& line, const spawn_report& report) {
    boost::asio::io_context io(1);
    const auto begun = std::chrono::steady_clock::now();
    const std::string path = line.spawn.socket.value_or(default_socket_path());
    const client server = connect(io.get_executor(), {.path = path, .timeout = k_patience});
    report.server(server, path, std::chrono::steady_clock::now() - begun);
    if (line.spawn.detach)
        leave_running(report, [&] {
            const call_options options = options_of(line, line.spawn.options);
            return ask<process>(io, server, path, [&](auto done) {
                server.async_call(line.template_name, line.entry, line.payload.value(), options,
                                  std::move(done));
            });
        });
    runner foreground(io, server, path, line.spawn, report,
                      [&](const spawn_options& attributes, runner::handler started) {
                          const call_options options = options_of(line, attributes);
                          server.async_call(line.template_name, line.entry, line.payload.value(),
                                            options, std::move(started));
                      });
    const int code = foreground.run();
    const unique_fd answer = foreground.take_answer();
    if (!answer) return code;
    const std::string lost = line.result.write(answer);
    if (lost.empty()) return code;
    report.error(lost);
    return code == k_exit_ok ? k_exit_failed : code;
}

}  // namespace

int call_command(const words& args, const closed_streams& streams) {
    const call_line line = parse_call(args, streams);
    const spawn_report report(line.spawn);
    const auto tell = [&](const failure& f) {
        if (f.step == step::connect || f.step == step::hello)
            return report.error(explain(f, line.spawn.socket));
        report.failed(f);
    };
    return told({.tell = tell,
                 .tell_other = [&](const std::string& why) { report.error(why); },
                 .code = &exit_code_of},
                [&] { return run(line, report); });
}

}  // namespace cleanfork::cli
