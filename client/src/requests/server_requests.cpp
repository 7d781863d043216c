#include "client/src/requests/server_requests.hpp"

#include "client/src/connection/convert.hpp"
#include "client/src/requests/blocking_call.hpp"
#include "client/src/requests/translate.hpp"
#include "ipc/base/fd.hpp"

namespace cleanfork::detail {

result<list_request> list_request::fill(outgoing& m, const deadline&) {
    m->mutable_list();
    return list_request();
}

result<list_request::value> list_request::convert(connection&, reply&& r) {
    if (!r.message.has_list()) return unexpected_reply();
    return children_of(r.message.list());
}

result<stats_request> stats_request::fill(outgoing& m, const deadline&) {
    m->mutable_stats();
    return stats_request();
}

result<stats_request::value> stats_request::convert(connection&, reply&& r) {
    if (!r.message.has_stats()) return unexpected_reply();
    return stats_of(r.message.stats());
}

result<events_request> events_request::fill(outgoing& m, const deadline&, std::uint64_t after) {
    m->mutable_events()->set_after(after);
    return events_request();
}

result<events_request::value> events_request::convert(connection&, reply&& r) {
    if (!r.message.has_events()) return unexpected_reply();
    return events_of(r.message.events());
}

failure events_request::expired() {
    return ipc::fail(step::wait, ETIMEDOUT, "events", "nothing has happened");
}

result<shutdown_request> shutdown_request::fill(outgoing& m, const deadline&) {
    m->mutable_shutdown();
    return shutdown_request();
}

result<void> shutdown_request::convert(connection&, reply&& r) {
    return r.message.has_shutdown() ? result<void>() : unexpected_reply();
}

result<update_base_request> update_base_request::fill(outgoing& m, const deadline&) {
    if (auto r = fill_base(*m->mutable_update_base()->mutable_base(), m.descriptors); !r)
        return r.error();
    return update_base_request();
}

result<void> update_base_request::convert(connection&, reply&& r) {
    return r.message.has_update_base() ? result<void>() : unexpected_reply();
}

result<signal_request> signal_request::fill(outgoing& m, const deadline&, ipc::child_id child,
                                            int number, signal_target target) {
    v1::SignalRequest& s = *m->mutable_signal();
    s.set_child(child.value());
    s.set_signal(number);
    s.set_target(to_wire(target));
    return signal_request();
}

result<void> signal_request::convert(connection&, reply&& r) {
    return r.message.has_signal() ? result<void>() : unexpected_reply();
}

result<wait_request> wait_request::fill(outgoing& m, const deadline&, ipc::child_id child) {
    m->mutable_wait()->set_child(child.value());
    return wait_request();
}

result<wait_result> wait_request::convert(connection&, reply&& r) {
    if (!r.message.has_wait()) return unexpected_reply();
    return end_of(r.message.wait().exit());
}

failure wait_request::expired() {
    return ipc::fail(step::wait, ETIMEDOUT, {}, "the child still runs");
}

result<void> signal_by_forkserver(child_state& child, int number, signal_target target,
                                  const deadline& d) {
    outgoing m;
    auto request = signal_request::fill(m, d, child.id(), number, target);
    return await_reply(child.owner(), m, std::move(*request), d);
}

result<void> signal_group(child_state& child, int number, const deadline& d) {
    if (!child.owner().lost()) return signal_by_forkserver(child, number, signal_target::group, d);
    if (const int error = child.process().signal_group(number); error != 0)
        return ipc::fail(step::signal, error, std::to_string(child.process().pid()));
    return {};
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

}  // namespace cleanfork::detail
