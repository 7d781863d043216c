#include "forkserver/daemon/options.hpp"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iomanip>
#include <iostream>

#include "forkserver/daemon/config/template_keys.hpp"

namespace cleanfork::daemon {

namespace {

// By a credential of systemd: LoadCredential=cleanforkd.toml:...
constexpr const char* k_credential = "/cleanforkd.toml";

std::string credential() {
    const char* const directory = std::getenv("CREDENTIALS_DIRECTORY");
    if (directory == nullptr) return {};
    std::string path = std::string(directory) + k_credential;
    return ::access(path.c_str(), F_OK) == 0 ? path : std::string();
}

int check_file(const std::string& path) {
    const auto read = read_settings(path);
    if (read) {
        std::cout << path << ": no error, " << read->templates.size() << " templates\n";
        return 0;
    }
    for (const std::string& line : read.error().lines) std::cerr << line << '\n';
    return 1;
}

void print_key(const ipc::option_words& key) {
    const std::string line =
        std::string(key.name) + " = " + std::string(key.value.empty() ? "true" : key.value);
    std::cout << "  " << std::left << std::setw(32) << line << key.text << '\n';
}

void print_keys() {
    std::cout << "Keys of a file of cleanforkd (TOML). Each may be left out.\n\nSettings:\n";
    for (const setting& s : all_settings()) print_key({s.name, s.value, help_of(s)});
    std::cout << "\nTemplates, each in a table [template.NAME]:\n";
    for (const ipc::option_words& key : template_keys()) print_key(key);
}

}  // namespace

void describe(CLI::App& app, options& o) {
    app.description("The forkserver of cleanfork: hands out fresh processes over a Unix socket.");
    app.set_version_flag("--version", "cleanforkd " CLEANFORK_VERSION);
    auto* config =
        app.add_option(
               "--config", o.file,
               "Take settings and templates from this file; SIGHUP reads it again (default: "
               "$CREDENTIALS_DIRECTORY/cleanforkd.toml, if it is there)")
            ->type_name("FILE");
    app.add_option("--check-config", o.check, "Tell what is wrong with this file, and end")
        ->type_name("FILE");
    app.add_flag("--help-config", o.asks_keys, "Show the keys of such a file, and end");
    for (const setting& s : all_settings())
        app.add_option_function<std::string>(
               "--" + std::string(s.name),
               [&o, &s](const std::string& value) {
                   settings scratch;
                   if (const std::string expected = take(s, value, scratch); !expected.empty())
                       throw CLI::ValidationError("--" + std::string(s.name),
                                                  "\"" + value + "\" is not " + expected);
                   o.given.emplace_back(&s, value);
               },
               help_of(s))
            ->type_name(std::string(s.value));
    app.add_option("--private-fd", o.private_fd,
                   "Serve one client over this inherited socket, and end with it")
        ->type_name("FD")
        ->excludes(config);
    // Of cleanfork::launch(), which starts this below a process that reaps it.
    app.add_flag("--stay", o.stay, "")->group("");
    // Of cleanfork::start_early(), which forks the template and then execs this.
    auto* early = app.add_option("--early-fd", o.early_fd, "")->group("");
    app.add_option("--early-pid", o.early_pid, "")->group("")->needs(early);
    app.add_option("--early-name", o.early_name, "")->group("")->needs(early);
}

boost::system::result<settings, file_problems> read_options(const options& o) {
    settings all;
    // A private forkserver has nobody who reads lines about its one session.
    if (o.private_fd >= 0) all.least = log_level::warning;
    if (!o.file.empty()) {
        auto read = read_settings(o.file);
        if (!read) return read.error();
        all = std::move(*read);
    }
    for (const auto& [which, value] : o.given) (void)take(*which, value, all);
    return all;
}

std::optional<int> parse(int argc, char** argv, options& o) {
    CLI::App app;
    describe(app, o);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? 0 : 2;
    }
    if (!o.check.empty()) return check_file(o.check);
    if (o.asks_keys) {
        print_keys();
        return 0;
    }
    if (o.file.empty() && o.private_fd < 0) o.file = credential();
    auto read = read_options(o);
    if (!read) {
        for (const std::string& line : read.error().lines)
            std::cerr << "cleanforkd: " << line << '\n';
        return 1;
    }
    o.set = std::move(*read);
    return std::nullopt;
}

}  // namespace cleanfork::daemon
