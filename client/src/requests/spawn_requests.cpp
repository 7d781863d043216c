#include "client/src/requests/spawn_requests.hpp"

#include <algorithm>

#include "client/src/connection/child_state.hpp"
#include "client/src/connection/convert.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::detail {

namespace {

// The time the caller has left counts as the request's own: it is not begun for one who has gone.
// In a forkserver that was stopped the cancellation comes with the request, and is read first.
void limit_queue_time(v1::SpawnRequest& r, const deadline& d) {
    if (!d) return;
    const std::chrono::nanoseconds left = std::max(*d - steady::now(), steady::duration::zero());
    const auto ns = static_cast<std::uint64_t>(left.count());
    if (!r.has_queue_timeout_ns() || ns < r.queue_timeout_ns()) r.set_queue_timeout_ns(ns);
}

result<process> process_of(connection& c, const v1::SpawnReply& r,
                           std::vector<unique_fd>& descriptors, parent_ends&& ends) {
    if (r.has_failure()) return ipc::from_wire(r.failure());
    const v1::Spawned& s = r.spawned();
    const std::uint32_t place = s.pidfd_descriptor();
    const bool has_pidfd = place >= 1 && place <= descriptors.size();
    if (!r.has_spawned() || s.child() == 0 || (!has_pidfd && !s.has_exit()))
        return ipc::fail(step::protocol, EBADMSG, "forkserver", "an incomplete reply to a spawn");
    const ipc::child_id id(s.child());
    ipc::process_ref child(s.pid(), has_pidfd ? std::move(descriptors[place - 1]) : unique_fd());
    if (s.has_exit())
        return adopt_ended(c, id, std::move(child), std::move(ends), end_of(s.exit()));
    return adopt(c, id, std::move(child), std::move(ends));
}

}  // namespace

result<spawn_request> spawn_request::fill(outgoing& m, const deadline& d,
                                          const spawn_options& options) {
    spawn_request request;
    v1::SpawnRequest& out = *m->mutable_spawn();
    if (auto r = translate(options, out, m.descriptors, request.ends); !r) return r.error();
    limit_queue_time(out, d);
    return request;
}

result<spawn_request> spawn_request::fill(outgoing& m, const deadline& d, const entry_call& call) {
    spawn_request request;
    v1::SpawnRequest& out = *m->mutable_spawn();
    if (auto r = translate_call(call, out, m.descriptors, request.ends); !r) return r.error();
    limit_queue_time(out, d);
    return request;
}

result<process> spawn_request::convert(connection& c, reply&& r) {
    if (!r.message.has_spawn()) return unexpected_reply();
    return process_of(c, r.message.spawn(), r.descriptors, std::move(ends));
}

void spawn_request::discard(result<process>& p) noexcept {
    if (p) (void)connection::of(*p)->process().signal(SIGKILL);
}

failure spawn_request::expired() {
    return ipc::fail(step::queue, ETIMEDOUT, {}, "the spawn was not done in time");
}

result<batch_request> batch_request::fill(outgoing& m, const deadline& d,
                                          const std::vector<spawn_options>& items) {
    if (items.size() > ipc::k_max_batch)
        return ipc::fail(step::request, E2BIG, std::to_string(items.size()) + " items",
                         "a batch has at most " + std::to_string(ipc::k_max_batch));
    batch_request request;
    request.ends.reserve(items.size());
    v1::BatchRequest& batch = *m->mutable_batch();
    for (const spawn_options& options : items) {
        const descriptor_list::mark before = m.descriptors.position();
        parent_ends ends;
        v1::SpawnRequest& out = *batch.add_items();
        if (auto r = translate(options, out, m.descriptors, ends); !r) {
            m.descriptors.rollback(before);
            batch.mutable_items()->RemoveLast();
            request.ends.emplace_back(r.error());
            continue;
        }
        limit_queue_time(out, d);
        request.ends.emplace_back(std::move(ends));
    }
    return request;
}

result<batch_request::value> batch_request::convert(connection& c, reply&& r) {
    if (!r.message.has_batch()) return unexpected_reply();
    value all;
    all.reserve(ends.size());
    int next = 0;
    for (result<parent_ends>& e : ends) {
        if (!e)
            all.emplace_back(e.error());
        else if (next < r.message.batch().items_size())
            all.push_back(
                process_of(c, r.message.batch().items(next++), r.descriptors, std::move(*e)));
        else
            all.emplace_back(unexpected_reply());
    }
    return all;
}

void batch_request::discard(result<value>& all) noexcept {
    if (all)
        for (result<process>& p : *all) spawn_request::discard(p);
}

failure batch_request::expired() { return spawn_request::expired(); }

}  // namespace cleanfork::detail
