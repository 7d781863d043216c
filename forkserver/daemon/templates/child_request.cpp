#include "forkserver/daemon/templates/child_request.hpp"

#include <cerrno>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::daemon {

namespace {

// A pipe when this process may not write so large a file.
result<unique_fd> large_body(std::string_view bytes) {
    auto body = ipc::sealed_memfd("cleanfork-call", bytes);
    if (!body && body.error().error_number == EFBIG) return ipc::filled_pipe(bytes);
    return body;
}

}  // namespace

result<child_request> child_request::make(queued_spawn& q) {
    const spawn::call_facts facts{.becomes = q.becomes.value(),
                                  .lease = q.lease ? q.lease->end_of_child.get() : -1,
                                  .lease_of = q.lease_of};
    auto packed = spawn::pack_call(q.request, q.purposes, q.descriptors, q.base, facts);
    if (!packed) return packed.error();
    child_request r;
    r.call_ = std::move(*packed);
    if (r.call_.bytes.size() <= ipc::k_max_inline_body) return r;
    if (r.call_.bytes.size() > ipc::k_max_body)
        return ipc::fail(step::request, EMSGSIZE, "message", "the request is over 16 MiB");
    auto body = large_body(r.call_.bytes);
    if (!body) return body.error();
    r.body_ = std::move(*body);
    const spawn::large_call large{.size = r.call_.bytes.size()};
    r.outer_.assign(reinterpret_cast<const char*>(&large), sizeof large);
    r.call_.descriptors.insert(r.call_.descriptors.begin(), r.body_.get());
    return r;
}

result<void> child_request::send(int channel) const {
    switch (ipc::send_packet(channel, body_ ? outer_ : call_.bytes, call_.descriptors)) {
        case ipc::send_status::sent: return {};
        case ipc::send_status::closed: return ipc::fail(step::child_start, EPIPE, "channel");
        case ipc::send_status::would_block:
        case ipc::send_status::failed: break;
    }
    return ipc::fail(step::prepare, errno, "channel", "the request could not be sent to its child");
}

}  // namespace cleanfork::daemon
