// How many leases of a template are out, and with whom, counted by what holds them.
#pragma once

#include <cstddef>
#include <map>
#include <memory>

#include "forkserver/daemon/daemon_ids.hpp"

namespace cleanfork::daemon {

// Of one generation of a template.
struct lease_counts {
    std::size_t all = 0;
    std::map<session_id, std::size_t> of_session;  // none is 0

    [[nodiscard]] std::size_t of(session_id s) const {
        const auto at = of_session.find(s);
        return at == of_session.end() ? 0 : at->second;
    }
};

// One of them, asked for or granted; given back when this is destroyed.
class lease_place {
public:
    lease_place() = default;
    lease_place(std::shared_ptr<lease_counts> counts, session_id session)
        : counts_(std::move(counts)), session_(session) {
        ++counts_->of_session[session_];
        ++counts_->all;
    }
    lease_place(lease_place&& other) noexcept = default;
    lease_place& operator=(lease_place&& other) noexcept {
        if (this == &other) return *this;
        give_back();
        counts_ = std::move(other.counts_);
        session_ = other.session_;
        return *this;
    }
    ~lease_place() { give_back(); }

    void give_back() noexcept {
        const auto counts = std::move(counts_);
        if (!counts) return;
        const auto at = counts->of_session.find(session_);
        if (--at->second == 0) counts->of_session.erase(at);
        --counts->all;
    }

private:
    std::shared_ptr<lease_counts> counts_;
    session_id session_;
};

}  // namespace cleanfork::daemon
