// events: what happens in a forkserver, as it happens.
#include <chrono>
#include <cleanfork/client.hpp>
#include <cstdio>
#include <string>
#include <variant>

#include "client/cli/commands/commands.hpp"
#include "client/cli/commands/errors.hpp"
#include "client/cli/commands/servers.hpp"
#include "client/cli/options/arguments.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "client/cli/reports/json_forms.hpp"
#include "client/cli/reports/text_table.hpp"
#include "ipc/base/timestamp.hpp"

namespace cleanfork::cli {

namespace {

std::string time_text(std::chrono::system_clock::time_point at) {
    const auto whole = std::chrono::floor<std::chrono::seconds>(at);
    const std::chrono::nanoseconds part = at - whole;
    return ipc::timestamp({std::chrono::system_clock::to_time_t(whole), part.count()});
}

json event_json(const event& e) {
    json j{{"time", time_text(e.time)}, {"level", e.level}, {"event", e.name}};
    for (const auto& [key, value] : e.fields)
        std::visit([&j, &name = key](const auto& v) { j[name] = v; }, value);
    return j;
}

std::string event_line(const event& e) {
    std::string line = time_text(e.time) + " " + printable(e.name);
    for (const auto& [key, value] : e.fields) {
        line += " " + printable(key) + "=";
        if (const auto* text = std::get_if<std::string>(&value)) {
            const bool is_plain = !text->empty() && text->find_first_of(" \"\\=") == text->npos;
            line += is_plain ? printable(*text) : "\"" + printable(*text) + "\"";
        } else {
            line += std::to_string(std::get<std::int64_t>(value));
        }
    }
    return line;
}

event dropped(std::uint64_t count) {
    return {std::chrono::system_clock::now(),
            "warning",
            "events_dropped",
            {{"count", static_cast<std::int64_t>(count)}}};
}

// False when nobody reads what is printed.
bool show(const event& e, bool as_json) {
    std::fputs(((as_json ? to_line(event_json(e)) : event_line(e)) + "\n").c_str(), stdout);
    return std::ferror(stdout) == 0;
}

bool show(const event_page& page, bool as_json) {
    if (page.dropped != 0 && !show(dropped(page.dropped), as_json)) return false;
    for (const event& e : page.events)
        if (!show(e, as_json)) return false;
    return std::fflush(stdout) == 0;
}

}  // namespace

int events_command(const words& args, const closed_streams&) {
    arguments form(
        {.command = "events",
         .usage = "[OPTION]...",
         .description =
             "Prints what has happened in a forkserver: the last lines of its log. With --follow, "
             "what\nhappens from then on: children that begin and end, requests that fail, "
             "templates, sessions.\nEvents that come faster than they are read are dropped, and "
             "counted in a line of their own.",
         .examples = "  cleanfork events --follow\n"
                     "  cleanfork events --follow --json | jq 'select(.event == \"exited\")'\n",
         .usage_exit = k_exit_usage});
    server_arguments server;
    bool follow = false;
    form.flag("-f,--follow", follow, "Go on until interrupted, or until the forkserver ends");
    server.add_to(form);
    form.parse(args);
    return told(about_server(server.socket), [&] {
        const client joined = join_server(server.socket);
        event_page page = joined.events(0, k_patience);
        while (show(page, server.json) && (follow || page.next < page.last))
            page = joined.events(page.next);
        return k_exit_ok;
    });
}

}  // namespace cleanfork::cli
