// template add: a program, or a child of another template, becomes a template.
#include "client/cli/commands/call_files.hpp"
#include "client/cli/commands/servers.hpp"
#include "client/cli/commands/template_commands.hpp"
#include "client/cli/options/arguments.hpp"
#include "client/cli/options/command_error.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/options/spawn_arguments.hpp"
#include "client/cli/reports/json_forms.hpp"
#include "client/cli/reports/template_report.hpp"
#include "client/cli/reports/text_table.hpp"
#include "ipc/base/template_words.hpp"

namespace cleanfork::cli {

namespace {

constexpr int k_most_warm = 4096;

struct add_line {
    server_arguments server;
    std::string name;
    template_options options;
    payload_source payload;
    std::vector<unique_fd> opened;
};

manual add_manual() {
    return {.command = "template add",
            .usage =
                "NAME [OPTION]... [--] PROGRAM [ARG]...\n"
                "       cleanfork template add NAME --from BASE --init ENTRY [OPTION]... "
                "[--] [ARG]...",
            .description =
                "Starts a template and waits until it is ready: PROGRAM, which calls "
                "template_main(), or\na child of the template BASE in which its initializer ENTRY "
                "loads further. A NAME that\nis taken gets its next generation.",
            .examples =
                "  cleanfork template add thumbnails --warm 4 -- ./thumbnailer\n"
                "  cleanfork template add models --huge-pages --rlimit as=8G -- ./predict\n"
                "  cleanfork template add german --from models --init load --payload-file de.bin\n",
            .usage_exit = k_exit_usage};
}

// The words are the file's of cleanforkd as well.
std::string option(const ipc::option_words& w) { return "--" + std::string(w.name); }

template <class Read, class Store>
void add_value(arguments& form, const ipc::option_words& w, Read read, Store store) {
    form.value(option(w), std::string(w.value), read, store, std::string(w.text));
}

void add_template_options(arguments& form, template_options& o) {
    using namespace ipc::template_words;
    form.heading("Template");
    add_value(form, k_warm, integer(0, k_most_warm),
              [&o](int n) { o.warm = static_cast<unsigned>(n); });
    add_value(form, k_leases, integer(0, k_most_warm),
              [&o](int n) { o.leases = static_cast<unsigned>(n); });
    add_value(form, k_start_timeout, parse_duration,
              [&o](auto t) { o.start_timeout = std::chrono::ceil<std::chrono::milliseconds>(t); });
    add_value(form, k_call_timeout, parse_duration,
              [&o](auto t) { o.call_timeout = std::chrono::ceil<std::chrono::milliseconds>(t); });
    form.flag(option(k_huge_pages), o.huge_pages, std::string(k_huge_pages.text));
    form.values(
        option(k_allow_fd), std::string(k_allow_fd.value), integer(0, k_most_descriptor),
        [&o](int fd) { o.allowed_descriptors.push_back(fd); }, std::string(k_allow_fd.text));
    form.flag(option(k_tolerate_unclean), o.tolerate_unclean, std::string(k_tolerate_unclean.text));
}

std::string check(const template_options& o, const std::vector<std::string>& command,
                  bool payload_given, bool named_fds) {
    if (o.from.empty()) {
        if (!o.initializer.empty() || payload_given || named_fds)
            return "--init, --payload-file and --fd NAME=... are of a derived template: --from "
                   "names its base";
        if (command.empty() || command.front().empty()) return "PROGRAM is missing";
        return {};
    }
    if (o.initializer.empty()) return "--from needs --init, an initializer of the base";
    if (o.huge_pages) return "--huge-pages: a derived template has the heap of its base";
    if (o.process.argv0) return "--argv0: a derived template is no program";
    return {};
}

// It outlives this command, and what it writes is for the forkserver to keep.
spawn_options process_of(spawn_options&& o) {
    for (stdio_option* stream : {&o.in, &o.out, &o.err})
        if (!std::holds_alternative<stdio::descriptor>(*stream)) *stream = stdio::null{};
    o.lifetime = {};
    return std::move(o);
}

add_line parse_add(const words& args, const closed_streams& streams) {
    arguments form(add_manual());
    form.ends_with_command();
    spawn_arguments a;
    add_line line;
    template_options& o = line.options;
    std::optional<std::string> base, initializer, payload_file;
    bool no_wait = false;
    add_template_options(form, o);
    form.positional(
        "NAME", as_is, [&line](std::string name) { line.name = std::move(name); },
        "What calls know it by");
    for (const auto& [w, text] : {std::pair(&ipc::template_words::k_from, &base),
                                  std::pair(&ipc::template_words::k_init, &initializer)})
        form.text(option(*w), std::string(w->value), *text, std::string(w->text));
    form.text("--payload-file", "FILE", payload_file, "What that works on (-: standard input)");
    form.flag("--if-absent", o.unless_there, "Leave one of that name that is ready, or starts");
    form.flag("--no-wait", no_wait, "Return when its start was asked for");
    a.add_to(form, subject::template_process);
    form.heading("Forkserver");
    line.server.add_to(form);
    form.parse(args);
    const words& command = form.words();
    form.refuse_if(a.settle(streams));

    o.process = process_of(std::move(a.request.options));
    o.from = base.value_or("");
    o.initializer = initializer.value_or("");
    o.wait = !no_wait;
    o.initializer_fds = std::move(a.request.named_fds);
    line.opened = std::move(a.request.opened);
    if (const std::string why =
            check(o, command, payload_file.has_value(), !o.initializer_fds.empty());
        !why.empty())
        form.refuse(why);
    if (o.from.empty()) {
        o.process.program = command.front();
        o.process.args.assign(command.begin() + 1, command.end());
    } else {
        o.initializer_args = command;
    }
    auto source = payload_source::open({}, payload_file);
    if (!source) throw command_error(source.error().why, k_exit_error);
    line.payload = std::move(*source);
    if (payload_file) o.initializer_payload = stdio::descriptor{line.payload.file()};
    return line;
}

}  // namespace

int template_add_command(const words& args, const closed_streams& streams) {
    const add_line line = parse_add(args, streams);
    return tell_build(line.server, line.name, [&](const client& joined, auto done) {
        joined.async_add_template(line.name, line.options, std::move(done));
    });
}

}  // namespace cleanfork::cli
