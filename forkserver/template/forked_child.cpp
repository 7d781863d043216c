#include "forkserver/template/forked_child.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
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
#include "forkserver/template/loop.hpp"
#include "forkserver/template/order.hpp"
#include "forkserver/template/take_call.hpp"
#include "ipc/base/sys.hpp"

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

// A caller that truncates the file under the mapping harms its own child alone: SIGBUS
// ends that.
result<std::string_view> map_payload(int fd) {
    struct stat st {};
    if (::fstat(fd, &st) != 0) return ipc::fail(step::prepare, errno, "payload");
    if (!S_ISREG(st.st_mode))
        return ipc::fail(step::request, EINVAL, "payload",
                         "its descriptor is no file and no memfd");
    const auto size = static_cast<std::size_t>(st.st_size);
    if (size == 0) return std::string_view();
    void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED) return ipc::fail(step::prepare, errno, "payload");
    return std::string_view(static_cast<const char*>(at), size);
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
    if (auto filled = fill_task(r); !filled) return filled.error();
    return check_entry(h, r);
}

bool is_target(const spawn::plan& p, int fd) noexcept {
    return std::any_of(p.moves, p.moves + p.move_count,
                       [fd](const spawn::descriptor_move& m) { return m.target == fd; });
}

// `fd`, moved away when a descriptor of the call is to get its number.
result<int> out_of_the_way(const spawn::plan& p, int fd) {
    if (fd < 0 || !is_target(p, fd)) return fd;
    const int moved = ::fcntl(fd, F_DUPFD_CLOEXEC, p.highest_target + 1);
    if (moved < 0) return ipc::fail(step::descriptors, errno, "descriptor " + std::to_string(fd));
    return moved;
}

// Applies the steps; after it only what is mapped, the answer's and the control
// socket are open.
result<void> apply(child_start& start, const host& h, request& r) {
    spawn::plan& p = r.plan();
    for (int* fd : {&start.control, &r.todo.result_fd}) {
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
    const int own[] = {start.control, r.todo.result_fd};
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
    char name[16] = {};
    r.todo.entry.copy(name, sizeof name - 1);
    ::prctl(PR_SET_NAME, name);
}

int run_entry(const child_start& start, host& h, notes& n, const task& t) {
    const auto tell = [&](const std::string& text) {
        n.leave(start.sequence, text);
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
    return code;
}

// The derived template's own control socket has come among its descriptors.
[[noreturn]] void become_template(host& h, request& r) {
    const int control = r.control_target;
    ::fcntl(control, F_SETFD, FD_CLOEXEC);
    initialize_and_serve(control, h, [&] { h.derive(r.todo); });
}

}  // namespace

void run_child(const child_start& given, host& h, notes& n) {
    child_start start = given;
    h.after_fork_in_child();
    start.files->renew();
    const bool parks = start.warm && !has_come(start.channel);
    if (parks) h.before_parking();
    if (parks && !report_parked(start.control, start.sequence)) leave();
    const auto call = take_call(start.channel, start.room);
    if (!call) fail_and_end(start, call.error());
    if (*call == nullptr) leave();
    request r;
    r.call = *call;
    if (auto understood = understand(r, start, h); !understood)
        fail_and_end(start, understood.error());
    if (!is_wanted(start.channel)) leave();
    if (auto applied = apply(start, h, r); !applied) fail_and_end(start, applied.error());
    // Not one instruction of the entry runs unless the forkserver knows of it.
    if (!report_started(start.control, start.sequence, parks ? was_parked::yes : was_parked::no))
        fail_and_end(start, ipc::fail(step::child_start, errno, "report"));
    ::close(start.control);
    fresh_libc(r);
    h.in_child();
    if (r.becomes_template()) become_template(h, r);
    ::_exit(run_entry(start, h, n, r.todo));
}

}  // namespace cleanfork::templates
