// The sessions by number.
#pragma once

#include <memory>
#include <unordered_map>

#include "forkserver/daemon/sessions/session.hpp"

namespace cleanfork::daemon {

class session_table {
public:
    // Null when it has ended, or never was.
    [[nodiscard]] session* find(session_id id) const {
        const auto at = sessions_.find(id);
        return at == sessions_.end() ? nullptr : at->second.get();
    }
    void add(const std::shared_ptr<session>& s) { sessions_.emplace(s->id(), s); }
    void erase(session_id id) { sessions_.erase(id); }
    [[nodiscard]] std::size_t size() const noexcept { return sessions_.size(); }

private:
    std::unordered_map<session_id, std::shared_ptr<session>> sessions_;
};

}  // namespace cleanfork::daemon
