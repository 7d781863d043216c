// The server's way of a call: a spawn whose child a template forks.

#include <fcntl.h>

#include <csignal>

#include "forkserver/daemon/server.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// For the child's lifetime; the child itself has been in it since before its entry.
unique_fd cgroup_of(const queued_spawn& q) {
    const v1::SpawnRequest& r = *q.request;
    if (r.has_cgroup_path())
        return unique_fd(::open(r.cgroup_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (r.has_cgroup_descriptor())
        return ipc::dup_fd(q.descriptors->at(r.cgroup_descriptor() - 1).get());
    return {};
}

}  // namespace

void server::charge(const queued_spawn& q) {
    session* s = find(q.session);
    if (s == nullptr) return;
    ++s->calls;
    s->call_bytes += q.bytes;
    s->call_descriptors += q.descriptors->size();
}

void server::discharge(const queued_spawn& q) {
    session* s = find(q.session);
    if (s == nullptr) return;
    --s->calls;
    s->call_bytes -= q.bytes;
    s->call_descriptors -= q.descriptors->size();
}

void server::run_call(queued_spawn q) {
    if (failure why = refusal(q); why.step != step::none) return finish(std::move(q), why);
    if (q.descriptors->size() > ipc::k_max_call_descriptors)
        return finish(
            std::move(q),
            ipc::fail(step::request, E2BIG, std::to_string(q.descriptors->size()) + " descriptors",
                      "a call takes at most " + std::to_string(ipc::k_max_call_descriptors)));
    q.began_ns = ipc::monotonic_ns();
    charge(q);
    templates_.call(std::move(q));
}

child_id server::call_started(queued_spawn q, generation_id generation, ipc::process_ref process) {
    discharge(q);
    session* s = find(q.session);
    if (s == nullptr) {
        process.signal(SIGKILL);
        return {};
    }
    child c = child_of(q);
    c.command = spawn::command_of(*q.request);
    c.template_name = q.request->call().template_name();
    c.cgroup = launcher_.own_descriptor(cgroup_of(q));
    c.process = launcher_.own_process(std::move(process));
    c.started_ns = q.began_ns;
    c.generation = generation;
    child* added = children_.add_of_template(std::move(c));
    ++s->children;
    ++spawned_total_;
    const std::uint64_t took = ipc::monotonic_ns() - q.began_ns;
    spawn_ns_total_ += took;
    spawn_ns_max_ = std::max(spawn_ns_max_, took);
    const child_id id = added->id;
    finish(std::move(q), added);
    return id;
}

void server::call_failed(queued_spawn q, const failure& why) {
    discharge(q);
    finish(std::move(q), why);
}

}  // namespace cleanfork::daemon
