#include "forkserver/template/forked_child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <typeinfo>

#include "forkserver/spawn/call_block.hpp"
#include "forkserver/spawn/steps.hpp"
#include "forkserver/template/channel.hpp"
#include "forkserver/template/child_files.hpp"
#include "forkserver/template/leased_child.hpp"
#include "forkserver/template/loop.hpp"
#include "forkserver/template/order.hpp"
#include "forkserver/template/take_call.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::templates {

namespace {

constexpr int k_exit_not_started = 127;
constexpr int k_exit_exception = 70;  // EX_SOFTWARE of sysexits.h

// What the child was asked for; it lives until the process ends.
struct request {
    spawn::call_block* call = nullptr;
    task todo;
    int control_target = -1;  // of a derived template: its own control socket

    [[nodiscard]] spawn::plan& plan() const noexcept { return call->steps; }
    [[nodiscard]] bool becomes_template() const noexcept { return call->becomes != 0; }
    [[nodiscard]] bool is_leased() const noexcept { return call->lease >= 0; }
};

// One thread, so plain sigaction; two signals are libc's own, and refused.
void reset_signals(std::uint64_t changed) {
    struct sigaction usual {};
    usual.sa_handler = SIG_DFL;
    for (int number = 1; number <= SIGRTMAX; ++number)
        if ((changed >> (number - 1) & 1) != 0 && number != SIGKILL && number != SIGSTOP)
            ::sigaction(number, &usual, nullptr);
}

// The forkserver has gone, or needs this warm child no more: that is no failure.
[[noreturn]] void leave() { ::_exit(0); }

[[noreturn]] void fail_and_end(const child_start& start, const failure& why) {
    report_child_failed(start.control, start.sequence, why);
    ::_exit(k_exit_not_started);
}

// The request for a warm child can come while it is being forked.
bool has_come(int channel) {
    pollfd p{channel, POLLIN, 0};
    return ::poll(&p, 1, 0) == 1;
}

// The forkserver keeps its end as long as the call is wanted: not beyond its deadline, its session
// or its cancellation.
bool is_wanted(int channel) {
    pollfd p{channel, 0, 0};
    return ::poll(&p, 1, 0) <= 0 || (p.revents & (POLLHUP | POLLERR)) == 0;
}

result<void> fill_task(request& r) {
    spawn::call_block& c = *r.call;
    task& t = r.todo;
    t.entry = c.text(c.entry);
    t.payload = c.text(c.payload_bytes);
    t.result_fd = c.result;
    if (c.payload >= 0) {
        auto mapped = map_payload(c.payload);
        if (!mapped) return mapped.error();
        t.payload = *mapped;
    }
    for (const spawn::block_part& a : c.items<spawn::block_part>(c.arguments))
        t.arguments.push_back(c.text(a));
    for (const spawn::named_move& n : c.items<spawn::named_move>(c.names)) {
        const int target = r.plan().moves[n.move].target;
        const std::string_view name = c.text(n.name);
        if (r.becomes_template() && name == k_control_name)
            r.control_target = target;
        else
            t.descriptors.emplace_back(name, target);
    }
    return {};
}

result<void> check_entry(const host& h, const request& r) {
    const std::string_view name = r.todo.entry;
    if (r.becomes_template()) {
        if (h.has_initializer(name)) return {};
        return ipc::fail(step::entry, ENOENT, std::string(name),
                         "the base template has no such initializer");
    }
    if (h.has_entry(name)) return {};
    std::string known;
    for (const std::string& e : h.entries()) known += (known.empty() ? "" : ", ") + e;
    return ipc::fail(step::entry, ENOENT, std::string(name),
                     known.empty() ? "the template has no entries" : "the template has: " + known);
}

// What of the plan depends on what this process is.
void complete(spawn::plan& p, const child_start& start, bool groups_asked) {
    if (p.parent_death_signal != 0) p.parent = start.parent;
    // Another user's child must not keep root's supplementary groups; others cannot set any.
    if (!groups_asked && p.set_uid && !p.becomes_caller && ::geteuid() != 0) p.set_groups = false;
    const auto limits_descriptors = [](const spawn::conduct_plan& c) {
        return std::any_of(c.limits, c.limits + c.limit_count, [](const spawn::resource_limit& l) {
            return l.resource == RLIMIT_NOFILE;
        });
    };
    if (start.descriptor_limit.rlim_cur == start.raised_limit || limits_descriptors(p) ||
        limits_descriptors(p.caller_conduct))
        return;
    auto* const limits = const_cast<spawn::resource_limit*>(p.limits);  // with room for one more
    limits[p.limit_count++] = {RLIMIT_NOFILE, start.descriptor_limit};
}

result<void> understand(request& r, const child_start& start, const host& h) {
    spawn::settle_map(*r.call, start.files->numbers(), start.null_fd);
    complete(r.plan(), start, r.call->groups_asked);
    if (r.is_leased()) return {};  // what it will run is not known yet
    if (auto filled = fill_task(r); !filled) return filled.error();
    return check_entry(h, r);
}

// Applies the steps; after it only what is mapped, the result's, the answer's and a lease's
// descriptor and the control socket are open.
result<void> apply(child_start& start, const host& h, request& r) {
    spawn::plan& p = r.plan();
    for (int* fd : {&start.control, &r.todo.result_fd, &r.call->answer, &r.call->lease}) {
        auto moved = out_of_the_way(p, *fd);
        if (!moved) return moved.error();
        *fd = *moved;
    }
    if (!h.keeps_handlers()) reset_signals(start.changed_signals);
    spawn::child_report report{};
    const spawn::child_context context{.p = &p, .report = &report, .execs = false};
    if (!spawn::apply_steps(context)) {
        const auto failed = static_cast<step>(report.failed_step);
        return ipc::fail(
            failed, report.error_number,
            spawn::object_of(p, failed, report.index, {.cgroup = r.call->text(r.call->cgroup)}));
    }
    const int own[] = {start.control, r.todo.result_fd, r.call->answer, r.call->lease};
    if (const int e = spawn::close_unmapped(p, start.files->numbers(), own))
        return ipc::fail(step::close_descriptors, e);
    return {};
}

void fresh_libc(const request& r) {
    const spawn::plan& p = r.plan();
    if (p.listen_pid != nullptr)
        std::snprintf(p.listen_pid, 12, "%d", static_cast<int>(::getpid()));
    ::environ = const_cast<char**>(p.envp);
    for (std::FILE* const f : {stdin, stdout, stderr})
        if (std::feof(f) != 0 || std::ferror(f) != 0) std::clearerr(f);
}

void take_name(std::string_view entry) {
    char name[16] = {};
    entry.copy(name, sizeof name - 1);
    ::prctl(PR_SET_NAME, name);
}

int run_entry(const child_start& start, host& h, notes& n, const task& t,
              const answer_place& answer) {
    std::string error;
    const auto tell = [&](const std::string& text) {
        n.leave(start.sequence, text);
        error = text;
        std::fprintf(stderr, "cleanfork: entry %.*s: %s\n", static_cast<int>(t.entry.size()),
                     t.entry.data(), text.c_str());
    };
    int code = k_exit_exception;
    try {
        code = h.run(t);
    } catch (...) {
        tell(text_of_current_exception());
    }
    h.flush();
    answer.tell(code & 0xff, error);
    return code;
}

// The derived template's own control socket has come among its descriptors.
[[noreturn]] void become_template(host& h, request& r) {
    const int control = r.control_target;
    ::fcntl(control, F_SETFD, FD_CLOEXEC);
    initialize_and_serve(control, h, [&] { h.derive(r.todo); });
}

// All of the request has been done but to run an entry: which, the client tells it itself.
answer_place await_lease(const child_start& start, const host& h, notes& n, request& r) {
    leased_call taken = await_call({.channel = r.call->lease,
                                    .answer = r.call->answer,
                                    .owner = r.call->lease_of,
                                    .room = start.room.last(ipc::k_max_inline_body),
                                    .files = start.files,
                                    .entries = &h});
    if (!taken.came) {
        n.leave_unused(start.sequence);
        leave();
    }
    r.todo = std::move(taken.todo);
    return taken.answer;
}

}  // namespace

void run_child(const child_start& given, host& h, notes& n) {
    child_start start = given;
    h.after_fork_in_child();
    start.files->renew();
    const bool parks = start.warm && !has_come(start.channel);
    if (parks) h.before_parking();
    if (parks && !report_parked(start.control, start.sequence)) leave();
    const auto call = take_call(start.channel, start.room.first(ipc::k_max_inline_body));
    if (!call) fail_and_end(start, call.error());
    if (*call == nullptr) leave();
    request r;
    r.call = *call;
    if (auto understood = understand(r, start, h); !understood)
        fail_and_end(start, understood.error());
    if (r.is_leased() && !parks) h.before_parking();
    if (!is_wanted(start.channel)) leave();
    if (auto applied = apply(start, h, r); !applied) fail_and_end(start, applied.error());
    // Not one instruction of an entry runs but in a process that the forkserver knows.
    if (!report_started(start.control, start.sequence, parks ? was_parked::yes : was_parked::no))
        fail_and_end(start, ipc::fail(step::child_start, errno, "report"));
    ::close(start.control);
    fresh_libc(r);
    const answer_place answer =
        r.is_leased() ? await_lease(start, h, n, r) : answer_place(r.call->answer);
    take_name(r.todo.entry);
    h.in_child();
    if (r.becomes_template()) become_template(h, r);
    ::_exit(run_entry(start, h, n, r.todo, answer));
}

}  // namespace cleanfork::templates
