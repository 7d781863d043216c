// The leased children of a session that wait for a call, by the kind of call that they wait for.
//
// A kind is all that a child is told before its call: two calls are of one kind when that is the
// same, byte for byte. Thread-safe.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/src/connection/deadline.hpp"
#include "client/src/connection/guarded.hpp"
#include "ipc/wire/ids.hpp"

namespace cleanfork::detail {

class child_state;

struct lease {
    std::shared_ptr<child_state> child;
    unique_fd channel;  // the call goes there
    unique_fd words;    // a pipe: what the child tells
};

class lease_pool {
public:
    // For a call of this kind, which is counted. None: the forkserver must be asked.
    std::optional<lease> take(const std::string& kind);
    // Whether one has been asked for that has not come.
    bool awaits(const std::string& kind);
    // The same call again, after what has come was read.
    std::optional<lease> take_late(const std::string& kind);
    // How many to ask for now: each is to be granted, or refused.
    std::size_t to_ask_for(const std::string& kind);
    // Gives `l` back when nobody will use it any more.
    [[nodiscard]] std::optional<lease> granted(const std::string& kind, lease&& l);
    void refused(const std::string& kind);
    // The child has ended: the lease is the caller's to destroy.
    [[nodiscard]] std::optional<lease> forget(ipc::child_id child);
    // There will be none any more.
    [[nodiscard]] std::vector<lease> close();

private:
    struct waiting {
        std::deque<lease> leases;
        std::size_t asked = 0;
        std::uint64_t calls = 0;
        std::size_t wanted = 1;
        steady::time_point ask_from{}, grow_from{};
    };
    struct kinds {
        std::map<std::string, waiting> all;
        bool closed = false;
    };
    static std::optional<lease> first_of(waiting& w);

    guarded<kinds> kinds_;
};

}  // namespace cleanfork::detail
