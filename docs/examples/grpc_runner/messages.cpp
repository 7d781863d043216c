#include "messages.hpp"

using runner::v1::RunReply;

cleanfork::spawn_options options_of(const runner::v1::Start& start) {
    cleanfork::spawn_options o{.program = start.program(),
                               .args = {start.args().begin(), start.args().end()},
                               .in = cleanfork::stdio::pipe{},
                               .out = cleanfork::stdio::pipe{},
                               .err = cleanfork::stdio::pipe{}};
    o.env.clear = start.clear_env();
    for (const std::string& variable : start.env()) {
        const std::size_t name_size = std::min(variable.find('='), variable.size());
        const std::size_t value = std::min(name_size + 1, variable.size());
        o.env.set.insert_or_assign(variable.substr(0, name_size), variable.substr(value));
    }
    if (!start.cwd().empty()) o.cwd = start.cwd();
    // Even when the server is killed, the forkserver ends the program and what it started.
    o.lifetime = {.signal = SIGKILL, .target = cleanfork::signal_target::group};
    return o;
}

RunReply started_reply(const cleanfork::process& child) {
    RunReply reply;
    reply.mutable_started()->set_pid(child.id());
    return reply;
}

RunReply finished_reply(const cleanfork::process& child, const cleanfork::exit_status& status) {
    using std::chrono::duration_cast, std::chrono::microseconds;
    RunReply reply;
    runner::v1::Finished& finished = *reply.mutable_finished();
    if (status.is_exited()) finished.set_code(status.code());
    if (status.is_signaled()) finished.set_signal(status.signal());
    if (status.is_unknown()) finished.set_unknown(status.why());
    finished.set_core_dumped(status.core_dumped());
    finished.set_text(status.to_string());
    const cleanfork::resource_usage usage = child.usage();
    finished.set_wall_us(duration_cast<microseconds>(child.wall_time()).count());
    finished.set_user_us(usage.user.count());
    finished.set_system_us(usage.system.count());
    finished.set_max_rss_kib(usage.max_rss_kib);
    return reply;
}

RunReply failed_reply(const cleanfork::failure& why) {
    RunReply reply;
    runner::v1::Failed& failed = *reply.mutable_failed();
    failed.set_step(std::string(to_string(why.step)));
    failed.set_error_number(why.error_number);
    failed.set_object(why.object);
    failed.set_message(why.message());
    return reply;
}
