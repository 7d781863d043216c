// cleanfork: the command. Finds the subcommand; each has its own file.
#include <array>
#include <csignal>
#include <cstdio>
#include <string>
#include <string_view>

#include "client/cli/commands/commands.hpp"
#include "client/cli/commands/errors.hpp"
#include "client/cli/foreground/signal_stream.hpp"
#include "client/cli/options/command_error.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/reports/output.hpp"

namespace cleanfork::cli {

namespace {

constexpr std::array<command, 13> k_commands{{
    {"spawn", "Run a program in a clean process", &spawn_command},
    {"call", "Run an entry of a template", &call_command},
    {"template", "Add, list, show, reload and remove templates", &template_command},
    {"serve", "Run a forkserver in the foreground", &serve_command},
    {"ps", "List the children of a forkserver", &ps_command},
    {"kill", "Send children a signal", &kill_command},
    {"wait", "Wait for children and tell how they ended", &wait_command},
    {"stats", "Show the figures of a forkserver", &stats_command},
    {"events", "Print what happens in a forkserver", &events_command},
    {"metrics", "Print or serve the figures for Prometheus", &metrics_command},
    {"shutdown", "End a forkserver", &shutdown_command},
    {"audit", "Tell whether forking from a process is safe", &audit_command},
    {"doctor", "Check what this kernel and account can do", &doctor_command},
}};

void print_help() {
    std::printf(
        "Usage: cleanfork COMMAND [OPTION]...\n"
        "Fresh processes from a clean forkserver.\n"
        "\nCommands:\n");
    print_summaries(k_commands);
    std::printf(
        "\nOptions:\n"
        "  -h, --help  Show this help; `cleanfork COMMAND --help` shows a command's\n"
        "  --version   Show the version\n"
        "\nExamples:\n"
        "  cleanfork spawn echo hello\n"
        "  cleanfork serve &\n"
        "  cleanfork spawn -d sleep 60\n"
        "  cleanfork ps\n");
}

// The one command `name` is the beginning or a slip of; empty if there is none.
std::string_view meant(std::string_view name) {
    std::string_view found;
    for (const command& c : k_commands) {
        if (name.empty() || c.name.front() != name.front()) continue;
        if (!found.empty()) return {};
        found = c.name;
    }
    return found;
}

int run(const words& args, const closed_streams& streams) {
    if (args.empty())
        throw command_error("a command is missing (see `cleanfork --help`)", k_exit_usage);
    const std::string& name = args.front();
    if (name == "-h" || name == "--help" || name == "help") {
        print_help();
        return k_exit_ok;
    }
    if (name == "--version") {
        std::printf("cleanfork %s\n", CLEANFORK_VERSION);
        return k_exit_ok;
    }
    const words rest(args.begin() + 1, args.end());
    if (const command* const named = find(k_commands, name)) return named->run(rest, streams);
    const std::string_view guess = meant(name);
    throw command_error(
        (name.starts_with('-') ? "unknown option " : "unknown command ") + name +
            (guess.empty() ? std::string() : "; did you mean " + std::string(guess) + "?") +
            " (see `cleanfork --help`)",
        k_exit_usage);
}

}  // namespace

}  // namespace cleanfork::cli

int main(int argc, char** argv) {
    namespace cli = cleanfork::cli;
    const cli::closed_streams streams = cli::occupy_standard_streams();
    // Threads of runtimes block every signal; this command must still be told to end.
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    // A reader that has gone away is an error of write(2), not the end of us.
    std::signal(SIGPIPE, SIG_IGN);
    cli::wait_for_room();
    // So is a file, or memfd, beyond RLIMIT_FSIZE.
    std::signal(SIGXFSZ, SIG_IGN);
    const int code =
        cli::told({}, [&] { return cli::run(cli::words(argv + 1, argv + argc), streams); });
    // Output that did not arrive is an error, but never hides the child's code.
    const bool lost = cli::output_is_lost();
    if (code > cli::k_dies_of_signal) {
        cli::take_default_action(code - cli::k_dies_of_signal);
    }
    return code == cli::k_exit_ok && lost ? cli::k_exit_error : code;
}
