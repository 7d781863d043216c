#include "forkserver/daemon/templates/start.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "forkserver/template/order.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::daemon {

namespace {

// A process that could not begin its program is gone at once, as a rule.
constexpr int k_template_end_ms = 2;

struct ends {
    unique_fd control, messages;                  // ours
    unique_fd template_control, template_output;  // the template's
};

result<ends> make_ends() {
    ends e;
    auto pair = ipc::seqpacket_pair();
    if (!pair) return pair.error();
    e.control = std::move(pair->first);
    e.template_control = std::move(pair->second);
    // Each report names its sender from the first one on.
    if (const int error = ipc::tell_senders(e.control.get()))
        return ipc::fail(step::template_start, error, "SO_PASSCRED");
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) return ipc::fail(step::template_start, errno, "pipe");
    e.messages = unique_fd(fds[0]);
    e.template_output = unique_fd(fds[1]);
    ipc::set_nonblocking(e.messages.get());
    return e;
}

bool maps(const v1::SpawnRequest& r, int target) {
    for (const auto& m : r.descriptors())
        if (m.target() == target) return true;
    return false;
}

// The descriptors of the specification, copied, with the two that every template has.
result<queued_spawn> request_of(const template_spec& spec, ends& e) {
    queued_spawn q;
    q.request = std::make_unique<v1::SpawnRequest>(spec.process);
    q.purposes = spec.purposes;
    q.base = spec.base;
    auto fds = std::make_shared<std::vector<unique_fd>>();
    for (const unique_fd& fd : *spec.descriptors) {
        fds->push_back(ipc::dup_fd(fd.get()));
        if (!fds->back()) return ipc::fail(step::prepare, errno, "descriptors");
    }
    const auto add = [&](unique_fd fd) {
        fds->push_back(std::move(fd));
        q.purposes.push_back(v1::DESCRIPTOR_PURPOSE_CHILD);
        return static_cast<std::uint32_t>(fds->size());
    };
    const auto map = [&](std::uint32_t source, int target) {
        v1::DescriptorMapping& m = *q.request->add_descriptors();
        m.set_source_descriptor(source);
        m.set_target(target);
        return &m;
    };
    // The lowest free number: 3, unless the specification has a use for that.
    int target = templates::k_control_target;
    while (maps(*q.request, target)) ++target;
    map(add(std::move(e.template_control)), target)->set_name(templates::k_control_name);
    const std::uint32_t output = add(std::move(e.template_output));
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO})
        if (!maps(*q.request, fd)) map(output, fd);
    if (q.request->has_exec()) {
        auto& set = *q.request->mutable_environment()->mutable_set();
        set.Add(std::string(templates::k_control_variable) + "=" + std::to_string(target));
        // Else each child would look up anew every function that its template has
        // not called (ld.so(8)), and copy the pages the results are written to.
        const bool said = std::any_of(set.begin(), set.end(), [](const std::string& v) {
            return v.starts_with("LD_BIND_NOW=");
        });
        if (!said) set.Add("LD_BIND_NOW=1");
    }
    // The copies go before what they are copies of, so that none is the last.
    q.descriptors = {fds.get(), [fds, all = spec.descriptors](const auto*) { fds->clear(); }};
    return q;
}

}  // namespace

result<start_request> request_start(const template_spec& spec) {
    auto made = make_ends();
    if (!made) return made.error();
    auto q = request_of(spec, *made);
    if (!q) return q.error();
    return start_request{std::move(*q), std::move(made->control), std::move(made->messages)};
}

namespace {

// The process is a child from its clone on, and its end is told as any other's.
class late_template final : public born {
public:
    explicit late_template(std::function<void(const failure&)> failed)
        : failed_(std::move(failed)) {}
    void begun(result<spawn::spawned> process) override {
        if (!process) failed_(process.error());
    }

private:
    std::function<void(const failure&)> failed_;
};

}  // namespace

result<child*> spawn_process(const start_tools& tools, generation_id id, queued_spawn q) {
    auto p = spawn::prepare(std::move(q.request), q.purposes, q.descriptors, q.base,
                            tools.launcher.self());
    if (!p) return p.error();
    child_origin origin;
    origin.command = spawn::command_of((*p)->request());
    origin.process_of = id;
    birth_cause cause;
    cause.command = origin.command;
    cause.is_ours = false;
    auto whose = std::make_unique<late_template>(tools.failed);
    auto room = births::make_room();
    auto made = tools.launcher.begin(std::move(*p));
    if (!made) return made.error();
    spawn::birth& b = **made;
    const bool begun = b.wait(tools.begin.patience({}));
    if (begun && b.failed() &&
        ipc::pidfd_wait(b.process().pidfd(), ipc::pidfd_event::ended, k_template_end_ms)) {
        (void)b.process().reap(WNOHANG);
        return b.why();
    }
    if (begun && !b.failed())
        return tools.children.add(std::move(origin), std::move(b.process()), b.started_ns());
    unique_fd pidfd = tools.launcher.own_descriptor(ipc::dup_fd(b.process().pidfd()));
    if (!pidfd) {
        const int e = errno;
        b.process().signal(SIGKILL);
        cause.is_ours = true;
        tools.begin.add(std::move(room), std::move(made.value()), std::move(cause), nullptr);
        return ipc::fail(step::prepare, e, "pidfd",
                         "its process was killed: raise the forkserver's RLIMIT_NOFILE");
    }
    auto added = tools.children.add(std::move(origin), {b.process().pid(), std::move(pidfd)},
                                    b.started_ns());
    tools.begin.add(std::move(room), std::move(*made), std::move(cause), std::move(whose));
    return added;
}

}  // namespace cleanfork::daemon
