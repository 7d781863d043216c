#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "client/cli/commands/commands.hpp"
#include "client/cli/options/command_error.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "ipc/base/find_daemon.hpp"

namespace cleanfork::cli {

namespace {

void print_serve_help() {
    std::fputs(
        "Usage: cleanfork serve [OPTION]...\n"
        "Runs a forkserver in the foreground until SIGTERM, SIGINT or `cleanfork shutdown`.\n"
        "It becomes cleanforkd, which takes the options below; see cleanforkd(8).\n"
        "\nExamples:\n"
        "  cleanfork serve\n"
        "  cleanfork serve --socket \"$XDG_RUNTIME_DIR/build/socket\" --log-level debug\n"
        "\n",
        stdout);
    std::fflush(stdout);
}

}  // namespace

// Replaces this process, so that a service manager sees the daemon itself.
int serve_command(const words& args, const closed_streams&) {
    if (std::any_of(args.begin(), args.end(),
                    [](const std::string& a) { return a == "-h" || a == "--help"; }))
        print_serve_help();
    auto daemon = ipc::find_daemon("");
    if (!daemon) throw command_error(daemon.error().message(), k_exit_error);
    std::vector<char*> argv{daemon->data()};
    words copies = args;
    for (std::string& a : copies) argv.push_back(a.data());
    argv.push_back(nullptr);
    // Ignored signals survive an exec; the daemon is to start as from a shell.
    std::signal(SIGPIPE, SIG_DFL);
    std::signal(SIGXFSZ, SIG_DFL);
    ::execv(daemon->c_str(), argv.data());
    throw command_error(*daemon + " cannot be run: " + std::strerror(errno), k_exit_error);
}

}  // namespace cleanfork::cli
