#include "client/src/requests/spawn.hpp"

#include "ipc/base/process_ref.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::detail {

void limit_queue_time(v1::SpawnRequest& r, const deadline& d) {
    const std::uint64_t at = wire_deadline(d);
    if (at != 0 && (r.deadline_ns() == 0 || at < r.deadline_ns())) r.set_deadline_ns(at);
}

failure not_connected() {
    return ipc::fail(step::connect, ENOTCONN, "client",
                     "this client is not connected: launch() or connect() gives one that is");
}

result<to_process> prepare_spawn(outgoing& m, const spawn_options& options, const deadline& d) {
    to_process convert;
    v1::SpawnRequest& request = *m->mutable_spawn();
    if (auto r = translate(options, request, m.descriptors, convert.ends); !r) return r.error();
    limit_queue_time(request, d);
    return convert;
}

result<to_batch> prepare_batch(outgoing& m, const std::vector<spawn_options>& items,
                               const deadline& d) {
    if (items.size() > ipc::k_max_batch)
        return ipc::fail(step::request, E2BIG, std::to_string(items.size()) + " items",
                         "a batch has at most " + std::to_string(ipc::k_max_batch));
    to_batch convert;
    convert.ends.reserve(items.size());
    v1::BatchRequest& batch = *m->mutable_batch();
    for (const spawn_options& options : items) {
        const descriptor_list::mark before = m.descriptors.position();
        parent_ends ends;
        v1::SpawnRequest& request = *batch.add_items();
        if (auto r = translate(options, request, m.descriptors, ends); !r) {
            m.descriptors.rollback(before);
            batch.mutable_items()->RemoveLast();
            convert.ends.emplace_back(r.error());
            continue;
        }
        limit_queue_time(request, d);
        convert.ends.emplace_back(std::move(ends));
    }
    return convert;
}

result<to_batch::value> to_batch::operator()(connection& c, reply&& r) {
    if (!r.message.has_batch()) return unexpected_reply();
    value all;
    all.reserve(ends.size());
    int next = 0;
    for (result<parent_ends>& e : ends) {
        if (!e)
            all.emplace_back(e.error());
        else if (next < r.message.batch().items_size())
            all.push_back(c.adopt(r.message.batch().items(next++), r.descriptors, std::move(*e)));
        else
            all.emplace_back(unexpected_reply());
    }
    return all;
}

result<process> spawn(connection& c, const spawn_options& options, const deadline& d) {
    outgoing m;
    auto convert = prepare_spawn(m, options, d);
    if (!convert) return convert.error();
    return call(c, m, std::move(*convert), d);
}

// Requests are read in their order, so that whatever follows finds the session.
result<unique_fd> open_session(connection& c) {
    auto pair = ipc::seqpacket_pair();
    if (!pair) return pair.error();
    outgoing m;
    m->mutable_open_session();
    m.descriptors.add_owned(std::move(pair->second), v1::DESCRIPTOR_PURPOSE_SESSION);
    if (auto sent = c.submit(c.next_id(), m, std::make_shared<ignoring_operation>()); !sent)
        return sent.error();
    return std::move(pair->first);
}

void fill_signal(outgoing& m, std::uint64_t child, int number, signal_target target) {
    v1::SignalRequest& s = *m->mutable_signal();
    s.set_child(child);
    s.set_signal(number);
    s.set_target(to_wire(target));
}

result<void> signal_group(child_state& child, int number, const deadline& d) {
    if (!child.owner->lost()) {
        outgoing m;
        fill_signal(m, child.id, number, signal_target::group);
        return call(*child.owner, m, to_nothing{}, d);
    }
    const int error = child.pidfd ? ipc::pidfd_signal_group(child.pidfd.get(), number) : ESRCH;
    if (error != 0) return ipc::fail(step::signal, error, std::to_string(child.pid));
    return {};
}

}  // namespace cleanfork::detail
