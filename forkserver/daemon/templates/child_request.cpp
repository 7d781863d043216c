#include "forkserver/daemon/templates/child_request.hpp"

#include <cerrno>

#include "ipc/base/sys.hpp"
#include "ipc/wire/message.hpp"

namespace cleanfork::daemon {

namespace {

// `request` is part of the message until the end of this, and is not the message's to delete,
// whatever throws meanwhile.
class lent_request {
public:
    lent_request(v1::ChildRequest& to, v1::SpawnRequest& request) : to_(to) {
        to_.set_allocated_request(&request);
    }
    lent_request(const lent_request&) = delete;
    lent_request& operator=(const lent_request&) = delete;
    ~lent_request() { (void)to_.release_request(); }

private:
    v1::ChildRequest& to_;
};

}  // namespace

result<void> send_request(int channel, queued_spawn& q) {
    v1::ChildMessage m;
    v1::ChildRequest& run = *m.mutable_run();
    run.set_base(q.base->wire);
    run.set_become_template(q.becomes ? 1 : 0);
    std::vector<int> fds;
    fds.reserve(q.descriptors->size() + 1);
    for (const unique_fd& fd : *q.descriptors) fds.push_back(fd.get());
    for (const int purpose : q.purposes)
        m.add_descriptors(static_cast<v1::DescriptorPurpose>(purpose));
    if (q.base->cwd) {
        fds.push_back(q.base->cwd.get());
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CWD);
        run.set_base_cwd_descriptor(static_cast<std::uint32_t>(fds.size()));
    }
    const lent_request lent(run, *q.request);
    const auto encoded = ipc::encode(m);
    if (!encoded) return encoded.error();
    switch (ipc::send(channel, *encoded, fds)) {
        case ipc::send_status::sent: return {};
        case ipc::send_status::closed: return ipc::fail(step::child_start, EPIPE, "channel");
        case ipc::send_status::would_block:
        case ipc::send_status::failed: break;
    }
    return ipc::fail(step::prepare, errno, "channel", "the request could not be sent to its child");
}

}  // namespace cleanfork::daemon
