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
#include <memory>
#include <typeinfo>

#include "forkserver/spawn/plan.hpp"
#include "forkserver/spawn/steps.hpp"
#include "forkserver/template/channel.hpp"
#include "forkserver/template/loop.hpp"
#include "forkserver/template/order.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/message.hpp"

namespace cleanfork::templates {

namespace {

constexpr int k_exit_not_started = 127;
constexpr int k_exit_exception = 70;  // EX_SOFTWARE of sysexits.h

// The request in every form it has here. Never freed: the entry uses it.
struct request {
    std::shared_ptr<std::vector<unique_fd>> descriptors;
    std::shared_ptr<spawn::session_base> base;
    std::unique_ptr<spawn::prepared> prepared;
    bool becomes_template = false;
    task todo;
    int control_target = -1;  // of a derived template: its own control socket
};

// One thread, so plain sigaction; two signals are libc's own, and refused.
void reset_signals() {
    struct sigaction usual {};
    usual.sa_handler = SIG_DFL;
    for (int number = 1; number <= SIGRTMAX; ++number)
        if (number != SIGKILL && number != SIGSTOP) ::sigaction(number, &usual, nullptr);
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

result<ipc::decoded<v1::ChildMessage>> take_message(const child_start& start,
                                                    ipc::receiver& receiver) {
    for (;;) {
        ipc::received packet = receiver.receive(start.channel);
        if (packet.status == ipc::receive_status::packet)
            return ipc::decode_child_message(std::move(packet));
        if (packet.status == ipc::receive_status::closed) leave();
        if (packet.status != ipc::receive_status::would_block)
            return ipc::fail(step::prepare, packet.error_number, "channel",
                             "the request did not arrive whole");
        pollfd p{start.channel, POLLIN, 0};
        ipc::retry([&] { return ::poll(&p, 1, -1); });
    }
}

result<std::shared_ptr<spawn::session_base>> take_base(const v1::ChildRequest& r,
                                                       std::vector<unique_fd>& descriptors) {
    auto base = std::make_shared<spawn::session_base>();
    v1::SessionBase wire;
    if (!wire.ParseFromString(r.base()))
        return ipc::fail(step::prepare, EBADMSG, "base", "the session's base is no message");
    for (std::string& e : *wire.mutable_environment())
        base->environment.strings.push_back(std::move(e));
    base->environment.seal();
    const std::size_t cwd = r.base_cwd_descriptor();
    if (cwd > descriptors.size())
        return ipc::fail(step::prepare, EBADMSG, "base", "its directory did not come");
    if (cwd != 0) base->cwd = std::move(descriptors[cwd - 1]);
    return base;
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
    const v1::SpawnRequest& wire = r.prepared->request();
    const v1::CallTarget& call = wire.call();
    task& t = r.todo;
    t.entry = call.entry();
    t.payload = call.payload();
    if (r.prepared->payload_fd() >= 0) {
        auto mapped = map_payload(r.prepared->payload_fd());
        if (!mapped) return mapped.error();
        t.payload = *mapped;
    }
    t.arguments.assign(call.arguments().begin(), call.arguments().end());
    for (const auto& m : wire.descriptors()) {
        if (r.becomes_template && m.name() == k_control_name)
            r.control_target = m.target();
        else if (!m.name().empty())
            t.descriptors.emplace_back(m.name(), m.target());
    }
    return {};
}

result<void> check_entry(const host& h, const request& r) {
    const std::string name(r.todo.entry);
    if (r.becomes_template) {
        if (h.has_initializer(name)) return {};
        return ipc::fail(step::entry, ENOENT, name, "the base template has no such initializer");
    }
    if (h.has_entry(name)) return {};
    std::string known;
    for (const std::string& e : h.entries()) known += (known.empty() ? "" : ", ") + e;
    return ipc::fail(step::entry, ENOENT, name,
                     known.empty() ? "the template has no entries" : "the template has: " + known);
}

// Descriptors that come by name have any number, so they make way for the template's files.
// A number that was asked for is the caller's.
void make_way(v1::SpawnRequest& r, const std::vector<int>& held) {
    if (held.empty()) return;
    int free = held.back() + 1;
    for (const auto& m : r.descriptors()) free = std::max(free, m.target() + 1);
    for (auto& m : *r.mutable_descriptors())
        if (!m.name().empty() && std::binary_search(held.begin(), held.end(), m.target()))
            m.set_target(free++);
}

result<std::unique_ptr<request>> understand(ipc::decoded<v1::ChildMessage>&& m,
                                            const child_start& start, const host& h) {
    if (!m.message.has_run() || !m.message.run().request().has_call())
        return ipc::fail(step::request, EBADMSG, "channel", "the request is no call");
    auto r = std::make_unique<request>();
    v1::ChildRequest& run = *m.message.mutable_run();
    r->becomes_template = run.become_template() != 0;
    auto base = take_base(run, m.descriptors);
    if (!base) return base.error();
    r->base = std::move(*base);
    r->descriptors = std::make_shared<std::vector<unique_fd>>(std::move(m.descriptors));
    make_way(*run.mutable_request(), start.files->numbers());
    spawn::parent_facts self;
    self.null_fd = start.null_fd;
    self.descriptor_limit.rlim_cur = start.soft_descriptor_limit;
    rlimit now{};
    ::getrlimit(RLIMIT_NOFILE, &now);
    self.descriptor_limit.rlim_max = now.rlim_max;
    self.restore_descriptor_limit = now.rlim_cur != start.soft_descriptor_limit;
    self.privileged = ::geteuid() == 0;
    self.pid = start.parent;
    const std::vector<int> purposes(m.message.descriptors().begin(), m.message.descriptors().end());
    auto prepared = spawn::prepare(std::unique_ptr<v1::SpawnRequest>(run.release_request()),
                                   purposes, r->descriptors, r->base, self);
    if (!prepared) return prepared.error();
    r->prepared = std::move(*prepared);
    r->prepared->plan.set_umask = true;  // the template's is whatever it chose
    if (auto filled = fill_task(*r); !filled) return filled.error();
    if (auto known = check_entry(h, *r); !known) return known.error();
    return r;
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
    spawn::plan& p = r.prepared->plan;
    for (int* fd : {&start.control, &r.todo.result_fd}) {
        auto moved = out_of_the_way(p, *fd);
        if (!moved) return moved.error();
        *fd = *moved;
    }
    if (!h.keeps_handlers()) reset_signals();
    spawn::child_report report{};
    const spawn::child_context context{.p = &p, .report = &report, .execs = false};
    if (!spawn::apply_steps(context)) {
        const auto failed = static_cast<step>(report.failed_step);
        return ipc::fail(failed, report.error_number, r.prepared->object_of(failed, report.index));
    }
    std::vector<int> kept = start.files->numbers();
    kept.insert(kept.end(), {start.control, r.todo.result_fd});
    if (const int e = spawn::close_unmapped(p, kept)) return ipc::fail(step::close_descriptors, e);
    // Their numbers are others' now.
    for (unique_fd& fd : *r.descriptors) (void)fd.release();
    (void)r.base->cwd.release();
    return {};
}

void fresh_libc(const request& r) {
    const spawn::plan& p = r.prepared->plan;
    if (p.listen_pid != nullptr)
        std::snprintf(p.listen_pid, 12, "%d", static_cast<int>(::getpid()));
    ::environ = const_cast<char**>(p.envp);
    std::clearerr(stdin);
    std::clearerr(stdout);
    std::clearerr(stderr);
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

void run_child(const child_start& given, host& h, notes& n, ipc::receiver& receiver) {
    child_start start = given;
    h.after_fork_in_child();
    start.files->renew();
    const bool parks = start.warm && !has_come(start.channel);
    if (parks) h.before_parking();
    if (parks && !report_parked(start.control, start.sequence)) leave();
    auto message = take_message(start, receiver);
    if (!message) fail_and_end(start, message.error());
    auto understood = understand(std::move(*message), start, h);
    if (!understood) fail_and_end(start, understood.error());
    request& r = *understood->release();
    r.todo.result_fd = r.prepared->result_fd();
    if (!is_wanted(start.channel)) leave();
    if (auto applied = apply(start, h, r); !applied) fail_and_end(start, applied.error());
    // Not one instruction of the entry runs unless the forkserver knows of it.
    if (!report_started(start.control, start.sequence, parks ? was_parked::yes : was_parked::no))
        fail_and_end(start, ipc::fail(step::child_start, errno, "report"));
    ::close(start.control);
    fresh_libc(r);
    h.in_child();
    if (r.becomes_template) become_template(h, r);
    ::_exit(run_entry(start, h, n, r.todo));
}

}  // namespace cleanfork::templates
