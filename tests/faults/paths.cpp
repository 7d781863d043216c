#include "tests/faults/paths.hpp"

#include <poll.h>
#include <unistd.h>

#include "tests/faults/watch.hpp"

namespace cleanfork::faults {

namespace {

using namespace std::chrono_literals;
constexpr auto k_patience = 8s;

client connected(const surroundings& s) {
    return connect({.path = s.socket, .timeout = k_patience});
}

call_options marking(const surroundings& s, const std::string& what) {
    return {.args = {what}, .fds = {{"ran", s.ran}}};
}

void hello(const surroundings& s, teller& t) {
    tell(told::count_from_here);
    t.attempt("connect", 0, [&] { connected(s); });
    tell(told::count_to_here);
}

void spawn(const surroundings& s, teller& t) {
    const client c = connected(s);
    tell(told::count_from_here);
    process p;
    t.attempt("spawn", 's', [&] { p = c.spawn(program_of(s, 's', "7"), k_patience); });
    tell(told::count_to_here);
    if (p.valid()) t.status("exit", p, exit_status::exited(7));
}

void attributes(const surroundings& s, teller& t) {
    const client c = connected(s);
    spawn_options o = program_of(s, 's', "7");
    o.cwd = s.directory;
    o.nice = 3;
    o.rlimits = {{RLIMIT_CORE, 0, 0}};
    o.oom_score_adj = 500;
    o.cpus = {0};
    o.group.how = process_group::kind::session;
    o.ignored_signals = {SIGHUP};
    o.no_new_privs = true;
    o.parent_death_signal = SIGTERM;
    tell(told::count_from_here);
    process p;
    t.attempt("spawn", 's', [&] { p = c.spawn(o, k_patience); });
    tell(told::count_to_here);
    if (p.valid()) t.status("exit", p, exit_status::exited(7));
}

void batch(const surroundings& s, teller& t) {
    const client c = connected(s);
    std::vector<spawn_options> items{program_of(s, 'b', "3"), program_of(s, 'n', "3"),
                                     program_of(s, 'c', "4")};
    items[1].program = "/nonexistent";
    tell(told::count_from_here);
    std::vector<result<process>> all;
    if (!t.attempt("batch", 0, [&] { all = c.spawn_batch(items, k_patience); })) return;
    for (std::size_t i = 0; i < all.size(); ++i) {
        const char tag = "bnc"[i];
        if (!all[i])
            t.item(i == 1 ? "no program" : "item", tag, all[i].error());
        else
            t.item_began("item", tag);
    }
    for (const std::size_t i : {0, 2})
        if (all.size() == 3 && all[i])
            t.status("exit", *all[i], exit_status::exited(i == 0 ? 3 : 4));
    tell(told::count_to_here);
}

void large(const surroundings& s, teller& t) {
    const client c = connected(s);
    spawn_options o = program_of(s, 'l', "7");
    o.env.set["LARGE"] = std::string(90'000, 'x');
    tell(told::count_from_here);
    process p;
    t.attempt("spawn", 'l', [&] { p = c.spawn(o, k_patience); });
    if (p.valid()) t.status("exit", p, exit_status::exited(7));
    process q;
    const std::string bytes(50'000, 'y');
    t.attempt("call", 'm', [&] { q = c.call("t", "mark_m", bytes, marking(s, "6"), k_patience); });
    if (q.valid()) t.status("exit of call", q, exit_status::exited(6));
    tell(told::count_to_here);
}

void call_entry(const surroundings& s, teller& t) {
    const client c = connected(s);
    call_options o = marking(s, "6");
    o.result = true;
    tell(told::count_from_here);
    process p;
    t.attempt("call", 'm', [&] { p = c.call("t", "mark_m", "payload", o, k_patience); });
    if (p.valid()) {
        t.status("exit", p, exit_status::exited(6));
        t.attempt("result", 0, [&] {
            const std::string r = read_result(p.take_result().get());
            if (p.status() == exit_status::exited(6) && r != "payload")
                t.wrong("the answer is: " + r);
        });
    }
    tell(told::count_to_here);
}

void warm(const surroundings& s, teller& t) {
    const client c = connected(s);
    template_options o = template_of(s);
    o.warm = 1;
    o.ends_with_session = true;
    c.add_template("warm", o, k_patience);
    tell(told::count_from_here);
    process p;
    t.attempt("call", 'm',
              [&] { p = c.call("warm", "mark_m", "payload", marking(s, "6"), k_patience); });
    tell(told::count_to_here);
    if (p.valid()) t.status("exit", p, exit_status::exited(6));
}

void exits(const surroundings& s, teller& t) {
    const client c = connected(s);
    spawn_options o = program_of(s, 'e', "read");
    o.in = stdio::pipe{};
    process p = c.spawn(o);
    call_options read = marking(s, "read");
    read.attributes.in = stdio::pipe{};
    process q = c.call("t", "mark_m", {}, read);
    tell(told::count_from_here);
    p.take_in().reset();
    t.status("exit", p, exit_status::exited(9));
    q.take_in().reset();
    t.status("exit of call", q, exit_status::exited(9));
    tell(told::count_to_here);
}

void signals(const surroundings& s, teller& t) {
    const client c = connected(s);
    const process p = c.spawn(program_of(s, 'p', "pause"));
    const process q = c.spawn(program_of(s, 'q', "pause"));
    const process r = c.spawn(program_of(s, 'r', "pause"));
    tell(told::count_from_here);
    const bool a = t.attempt(
        "signal", 0, [&] { c.signal(p.child_id(), SIGUSR1, signal_target::process, k_patience); });
    const bool b = t.attempt("signal of group", 0, [&] { q.signal_group(SIGUSR2); });
    const bool d = t.attempt("signal by pidfd", 0, [&] { r.signal(SIGTERM); });
    tell(told::count_to_here);
    if (a) t.status("exit", p, exit_status::signaled(SIGUSR1, false));
    if (b) t.status("exit of group", q, exit_status::signaled(SIGUSR2, false));
    if (d) t.status("exit by pidfd", r, exit_status::signaled(SIGTERM, false));
}

void tree(const surroundings& s, teller& t) {
    const client c = connected(s);
    spawn_options o = program_of(s, 'p', "pause");
    o.lifetime.target = signal_target::tree;
    tell(told::count_from_here);
    process p;
    t.attempt("spawn", 'p', [&] { p = c.spawn(o, k_patience); });
    if (p.valid() && t.attempt("signal of tree", 0, [&] { p.signal_tree(SIGKILL); }))
        t.status("exit", p, exit_status::signaled(SIGKILL, false));
    tell(told::count_to_here);
}

void run(const surroundings& s, teller& t) {
    const client c = connected(s);
    spawn_options o = program_of(s, 'o', "lines");
    o.in = o.out = o.err = stdio::pipe{};
    tell(told::count_from_here);
    t.attempt("run", 'o', [&] {
        const run_result r = c.run(o, "input", k_patience);
        if (r.status == exit_status::exited(5) && r.out != "1\n2\n3\n")
            t.wrong("the output is: " + r.out);
    });
    tell(told::count_to_here);
}

void ask(const surroundings& s, teller& t) {
    const client c = connected(s);
    tell(told::count_from_here);
    t.attempt("list", 0, [&] {
        if (c.list(k_patience).empty()) t.wrong("the neighbour's child is not in the list");
    });
    t.attempt("stats", 0, [&] { c.stats(k_patience); });
    t.attempt("update base", 0, [&] { c.update_base(k_patience); });
    t.attempt("templates", 0, [&] { c.templates(k_patience); });
    t.attempt("open session", 0, [&] { attach(c.open_session(), k_patience); });
    tell(told::count_to_here);
}

void template_start(const surroundings& s, teller& t) {
    const client c = connected(s);
    template_options o = template_of(s);
    o.ends_with_session = true;
    tell(told::count_from_here);
    const bool there = t.attempt("add template", 0, [&] { c.add_template("x", o, k_patience); });
    tell(told::count_to_here);
    if (!there) return;
    process p;
    t.attempt("call", 'x', [&] { p = c.call("x", "mark_x", {}, marking(s, "4"), k_patience); });
    if (p.valid()) t.status("exit", p, exit_status::exited(4));
}

void reload(const surroundings& s, teller& t) {
    const client c = connected(s);
    tell(told::count_from_here);
    t.attempt("reload", 0, [&] { c.reload_template("t", true, k_patience); });
    process p;
    t.attempt("call", 'm', [&] { p = c.call("t", "mark_m", {}, marking(s, "4"), k_patience); });
    tell(told::count_to_here);
    if (p.valid()) t.status("exit", p, exit_status::exited(4));
}

void await_end(int pidfd) {
    pollfd p{pidfd, POLLIN, 0};
    ::poll(&p, 1, static_cast<int>(std::chrono::milliseconds(k_patience).count()));
}

// False when the forkserver has ended before it: then nobody ends it.
bool has_ended(const process& child, int daemon) {
    pollfd p[] = {{child.native_handle(), POLLIN, 0}, {daemon, POLLIN, 0}};
    ::poll(p, 2, static_cast<int>(std::chrono::milliseconds(k_patience).count()));
    return p[0].revents != 0 || p[1].revents == 0;
}

void session_end(const surroundings& s, teller& t) {
    process p, q, r;
    {
        client c = connected(s);
        p = c.spawn(program_of(s, 'p', "pause"));
        spawn_options o = program_of(s, 'q', "deaf");
        o.lifetime = {.grace = 30ms, .target = signal_target::group};
        o.out = stdio::pipe{};
        q = c.spawn(o);
        char byte = 0;  // it is deaf by now
        if (::read(q.out(), &byte, 1) != 1) return t.wrong("the deaf child has not begun");
        r = c.call("t", "mark_r", {}, marking(s, "pause"));
        tell(told::count_from_here);
    }
    const auto end_of = [&](std::string_view name, const process& child, int signal) {
        if (has_ended(child, s.daemon)) t.status(name, child, exit_status::signaled(signal, false));
    };
    end_of("exit", p, SIGTERM);
    end_of("exit after grace", q, SIGKILL);
    end_of("exit of call", r, SIGTERM);
}

void shut_down(const surroundings& s, teller& t) {
    const client c = connected(s);
    const process p = c.spawn(program_of(s, 'p', "pause"));
    tell(told::count_from_here);
    t.attempt("shutdown", 0, [&] { c.shutdown(k_patience); });
    await_end(s.daemon);
}

void logs(const surroundings& s, teller& t) {
    const client c = connected(s);
    spawn_options o = program_of(s, 'o', "lines");
    o.out = stdio::rotated_file{.path = s.directory + "/log"};
    o.lifetime = lifetime::kept();
    tell(told::count_from_here);
    process p;
    t.attempt("spawn", 'o', [&] { p = c.spawn(o, k_patience); });
    if (p.valid()) t.status("exit", p, exit_status::exited(5));
}

void launch_private(const surroundings& s, teller& t) {
    tell(told::count_from_here);
    client c;
    if (!t.attempt("launch", 0, [&] { c = launch({.daemon = s.bin + "/cleanforkd"}); })) return;
    process p;
    t.attempt("spawn", 's', [&] { p = c.spawn(program_of(s, 's', "7"), k_patience); });
    if (p.valid()) t.status("exit", p, exit_status::exited(7));
    c = {};
}

}  // namespace

template_options template_of(const surroundings& s) {
    return {.process = {.program = s.helpers + "/template_faults"},
            .start_timeout = 5s,
            .call_timeout = 3s};
}

spawn_options program_of(const surroundings& s, char tag, const std::string& what) {
    spawn_options o{.program = s.helpers + "/fault_program", .args = {std::string(1, tag), what}};
    o.fds = {{s.ran, 3}};
    return o;
}

const std::vector<path>& all_paths() {
    static const std::vector<path> paths{
        {.name = "start", .starts_daemon = true},
        {.name = "launch", .client = launch_private},
        {.name = "hello", .client = hello},
        {.name = "spawn", .client = spawn},
        {.name = "attributes", .client = attributes},
        {.name = "batch", .client = batch},
        {.name = "large", .client = large},
        {.name = "run", .client = run},
        {.name = "call", .client = call_entry},
        {.name = "warm", .client = warm},
        {.name = "exit", .client = exits},
        {.name = "signal", .client = signals},
        {.name = "tree", .client = tree},
        {.name = "ask", .client = ask},
        {.name = "template", .client = template_start},
        {.name = "reload", .client = reload},
        {.name = "session-end", .client = session_end},
        {.name = "shutdown", .client = shut_down, .ends_daemon = true},
        {.name = "log", .client = logs},
        {.name = "command-spawn",
         .command = {"spawn", "--", "@helpers/fault_program", "-", "lines"},
         .output = "1\n2\n3\n",
         .code = 5},
        {.name = "command-call", .command = {"call", "t", "exit", "4"}, .code = 4},
        {.name = "command-ps", .command = {"ps"}, .output = "?"},
        {.name = "command-stats", .command = {"stats"}, .output = "?"},
        {.name = "command-template", .command = {"template", "list"}, .output = "?"},
        {.name = "command-reload", .command = {"template", "reload", "t"}, .output = "?"},
        {.name = "command-shutdown", .command = {"shutdown"}, .output = "?", .ends_daemon = true},
    };
    return paths;
}

}  // namespace cleanfork::faults
