// What the server does for each kind of request about templates.
#include "forkserver/daemon/server.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

// False: it is not about templates.
bool server::on_template_message(session& s, ipc::decoded<v1::ClientMessage>& m) {
    const request_id request(m.message.request_id());
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    result<void> done;
    switch (m.message.body_case()) {
        case v1::ClientMessage::kAddTemplate:
            done = add_template(s, m);
            if (!done) s.send_failure(request, done.error());
            return true;
        case v1::ClientMessage::kListTemplates:
            done =
                templates_.list(m.message.list_templates().name(), *reply.mutable_list_templates());
            break;
        case v1::ClientMessage::kReloadTemplate:
            done = shutting_down_
                       ? ipc::fail(step::shutdown, ESHUTDOWN, {}, "the forkserver is ending")
                       : templates_.reload(m.message.reload_template().name(), s.id(), request,
                                           !m.message.reload_template().no_wait());
            if (!done) s.send_failure(request, done.error());
            return true;
        case v1::ClientMessage::kRemoveTemplate:
            done = templates_.remove(m.message.remove_template().name());
            reply.mutable_remove_template();
            break;
        default: return false;
    }
    if (done)
        s.send(reply);
    else
        s.send_failure(request, done.error());
    return true;
}

result<void> server::add_template(session& s, ipc::decoded<v1::ClientMessage>& m) {
    if (shutting_down_) return ipc::fail(step::shutdown, ESHUTDOWN, {}, "the forkserver is ending");
    if (m.descriptors.size() > ipc::k_max_call_descriptors)
        return ipc::fail(step::request, E2BIG,
                         std::to_string(m.descriptors.size()) + " descriptors",
                         "a template takes at most " + std::to_string(ipc::k_max_call_descriptors));
    if (auto ready = orphans_.adopt_from_now_on(); !ready) return ready;
    std::vector<int> purposes(m.message.descriptors().begin(), m.message.descriptors().end());
    return templates_.add(*m.message.mutable_add_template(), std::move(purposes),
                          std::move(m.descriptors), s.base, s.id(),
                          request_id(m.message.request_id()));
}

void server::template_settled(session_id id, v1::ServerMessage reply) {
    if (session* s = find(id)) s->send(reply);
}

result<void> server::add_early_template(const std::string& name, int pid, unique_fd control) {
    if (auto ready = orphans_.adopt_from_now_on(); !ready) return ready;
    return templates_.add_early(name, pid, std::move(control));
}

}  // namespace cleanfork::daemon
