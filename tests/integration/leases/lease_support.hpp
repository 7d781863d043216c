// A lease on the wire itself: its channel, and the words of its child.
#pragma once

#include "ipc/wire/lease.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/integration/templates/template_support.hpp"

namespace cleanfork::testing {

struct raw_lease {
    failure refused;  // step::none: it was granted
    std::uint64_t child = 0;
    pid_t pid = 0;
    unique_fd pidfd, channel, words;

    // 0 or errno.
    [[nodiscard]] int send(std::string_view packet, std::span<const int> fds = {}) const;
    [[nodiscard]] int call(const std::string& entry, std::vector<std::string_view> arguments = {},
                           std::span<const int> fds = {}) const;
    // The next word; the kind is none of them when the child has no more to tell.
    [[nodiscard]] ipc::lease_message word() const;
    // Returns when it has stopped.
    void stop() const;
    void go_on() const;
    [[nodiscard]] bool ends() const;
    [[nodiscard]] bool ended() const;
};

v1::SpawnRequest lease_request(const std::string& name = "t");
raw_lease lease_child(raw_session& s, v1::SpawnRequest r = lease_request());
// A packet of this call, with a word for each stage.
ipc::lease_content content(std::string_view entry, std::vector<std::string_view> arguments = {});

// Tells that `l` has its call, as a client does.
void tell_used(raw_session& s, const raw_lease& l, const std::string& entry);
// As `list` has it; null when it has none.
std::optional<v1::ChildInfo> listed(raw_session& s, std::uint64_t child);

}  // namespace cleanfork::testing
