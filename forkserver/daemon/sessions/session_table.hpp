// The sessions by number.
#pragma once

#include <unistd.h>

#include <memory>
#include <unordered_map>

#include "forkserver/daemon/sessions/session.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/socket_peer.hpp"

namespace cleanfork::daemon {

class session_table {
public:
    // Null when it has ended, or never was.
    [[nodiscard]] session* find(session_id id) const {
        const auto at = sessions_.find(id);
        return at == sessions_.end() ? nullptr : at->second.get();
    }
    void add(const std::shared_ptr<session>& s) { sessions_.emplace(s->id(), s); }
    void hang_up_all() noexcept {
        for (const auto& [id, s] : sessions_) s->hang_up();
    }
    void erase(session_id id) { sessions_.erase(id); }
    // True when the other end of a session is this socket: the forkserver would talk to itself, and
    // never see the end of either.
    [[nodiscard]] bool is_end_of_one(int socket) const {
        const auto peer = ipc::peer_inode(socket);
        // What nobody can tell, of a socket that was connected to the forkserver its peer tells.
        if (!peer) {
            const auto other = ipc::peer_of(socket);
            return other && other->pid == ::getpid();
        }
        for (const auto& [id, s] : sessions_)
            if (s->inode() == *peer) return true;
        return false;
    }
    [[nodiscard]] std::size_t size() const noexcept { return sessions_.size(); }

private:
    std::unordered_map<session_id, std::shared_ptr<session>> sessions_;
};

}  // namespace cleanfork::daemon
