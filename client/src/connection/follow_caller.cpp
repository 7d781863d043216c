#include "client/src/connection/follow_caller.hpp"

#include <algorithm>

#include "ipc/base/sys.hpp"
#include "ipc/wire/identity_message.hpp"

namespace cleanfork::detail {

namespace {

failure differs(std::string what) { return ipc::fail(step::identity, EPERM, std::move(what)); }

// Also when one of the two cannot tell.
result<void> check_place(const ipc::place& here, const ipc::place& there) {
    if (here.root_device != there.root_device || here.root_inode != there.root_inode)
        return differs("another root directory");
    if (here.root_mount != there.root_mount && here.root_mount != 0 && there.root_mount != 0)
        return differs("another mount namespace");
    for (std::size_t i = 0; i < here.namespaces.size(); ++i) {
        if (here.namespaces[i] == there.namespaces[i]) continue;
        // One of processes is not told before it has one.
        const bool is_everywhere = ipc::k_namespaces[i] != "pid_for_children";
        if (is_everywhere && (here.namespaces[i] == 0 || there.namespaces[i] == 0))
            return differs("namespaces that /proc does not tell");
        return differs("another namespace (" + std::string(ipc::k_namespaces[i]) + ")");
    }
    if (here.seccomp_mode != 0 && there.seccomp_mode == 0) return differs("a filter of seccomp");
    if (here.seccomp_filters > there.seccomp_filters) return differs("one more filter of seccomp");
    return {};
}

result<void> check_rights(const ipc::rights& here, const ipc::rights& there) {
    if (there.no_new_privs && !here.no_new_privs) return differs("no_new_privs is not set");
    const std::uint64_t missing = here.capabilities.bounding & ~there.capabilities.bounding;
    for (unsigned c = 0; missing >> c != 0; ++c)
        if ((missing >> c & 1) != 0)
            return differs("capability " + ipc::capability_name(c) + " in the bounding set");
    return {};
}

// What of its rights a child is to have. The saved ids are the effective ones, as an exec leaves
// them. Of what is permitted an exec decides by rules of its own, so a forkserver may have more
// or less of it than the program that started it; a child has no more than either.
ipc::rights wanted(const ipc::rights& here, const ipc::rights& there) {
    ipc::rights w = here;
    w.user.saved = w.user.effective;
    w.group.saved = w.group.effective;
    w.capabilities.permitted &= there.capabilities.permitted;
    w.capabilities.effective &= there.capabilities.permitted;
    return w;
}

bool starts_something(const v1::ClientMessage& m) {
    switch (m.body_case()) {
        case v1::ClientMessage::kSpawn: return !m.spawn().as_forkserver();
        case v1::ClientMessage::kAddTemplate: return !m.add_template().process().as_forkserver();
        case v1::ClientMessage::kReloadTemplate: return !m.reload_template().as_forkserver();
        case v1::ClientMessage::kBatch:
            return std::any_of(m.batch().items().begin(), m.batch().items().end(),
                               [](const v1::SpawnRequest& r) { return !r.as_forkserver(); });
        default: return false;
    }
}

void set_caller(v1::ClientMessage& m, const v1::Caller& caller) {
    switch (m.body_case()) {
        case v1::ClientMessage::kSpawn: *m.mutable_spawn()->mutable_caller() = caller; return;
        case v1::ClientMessage::kBatch:
            for (v1::SpawnRequest& item : *m.mutable_batch()->mutable_items())
                if (!item.as_forkserver()) *item.mutable_caller() = caller;
            return;
        // How a template is scheduled and limited is not what its calls are compared with.
        case v1::ClientMessage::kAddTemplate:
            if (caller.has_rights())
                *m.mutable_add_template()->mutable_process()->mutable_caller()->mutable_rights() =
                    caller.rights();
            return;
        case v1::ClientMessage::kReloadTemplate:
            if (caller.has_rights())
                *m.mutable_reload_template()->mutable_caller()->mutable_rights() = caller.rights();
            return;
        default: return;
    }
}

}  // namespace

result<void> follow_caller(const ipc::identity& server, v1::ClientMessage& m) {
    if (!starts_something(m)) return {};
    const ipc::identity& self = ipc::own_identity();
    if (self.error_number != 0)
        return ipc::fail(step::identity, self.error_number, self.unseen,
                         "it could not be compared with the forkserver's");
    if (auto r = check_place(self.place, server.place); !r) return r;
    if (auto r = check_rights(self.rights, server.rights); !r) return r;
    v1::Caller caller;
    bool any = ipc::differences_to_wire(self.conduct, server.conduct, *caller.mutable_conduct());
    if (!any) caller.clear_conduct();
    if (const ipc::rights w = wanted(self.rights, server.rights); w != server.rights) {
        ipc::to_wire(w, *caller.mutable_rights());
        any = true;
    }
    if (any) set_caller(m, caller);
    return {};
}

}  // namespace cleanfork::detail
