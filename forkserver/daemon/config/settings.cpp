#include "forkserver/daemon/config/settings.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

namespace cleanfork::daemon {

namespace {

constexpr std::array<setting, 14> k_settings{{
    {"socket", "PATH",
     "Path of the socket to serve (default: $CLEANFORK_SOCKET, or below $XDG_RUNTIME_DIR or /run)",
     &settings::socket},
    {"log-level", "LEVEL", "debug, info, warning or error", &settings::least},
    {"max-sessions", "N", "Sessions at a time", &quotas::sessions_per_uid},
    {"max-children", "N", "Children of one session, with unacknowledged statuses",
     &quotas::children_per_session},
    {"max-queued", "N", "Spawns queued by one session", &quotas::queued_per_session},
    {"max-queued-bytes", "N", "Bytes of spawns queued by one session",
     &quotas::queued_bytes_per_session},
    {"max-queued-descriptors", "N", "Descriptors of spawns queued by one session",
     &quotas::queued_descriptors_per_session},
    {"max-user-children", "N", "Children of all sessions together", &quotas::children_per_user},
    {"max-user-queued", "N", "Spawns queued by all sessions together", &quotas::queued_per_user},
    {"max-user-descriptors", "N", "Descriptors of spawns queued by all sessions together",
     &quotas::queued_descriptors_per_user},
    {"max-user-memory", "N", "Bytes of memory that requests and bases of all sessions take",
     &quotas::memory_per_user},
    {"max-unclaimed", "N", "Statuses kept of children that outlived their session",
     &quotas::unclaimed_statuses},
    {"max-events", "N", "Events kept for `cleanfork events` while nobody follows them",
     &quotas::kept_events},
    {"lease-idle", "MILLISECONDS",
     "After this a leased child that its session has not called is taken back",
     &quotas::lease_idle_ms},
}};

// In the order of log_level.
constexpr std::array<std::string_view, 4> k_levels{"debug", "info", "warning", "error"};

std::string take_number(std::string_view value, std::size_t& into) {
    std::size_t number = 0;
    const char* end = value.data() + value.size();
    const auto [stop, error] = std::from_chars(value.data(), end, number);
    // What is larger cannot be written in the file.
    constexpr std::size_t k_most = std::numeric_limits<std::int64_t>::max();
    if (error != std::errc() || stop != end || number == 0 || number > k_most)
        return "a number from 1";
    into = number;
    return {};
}

std::string take_level(std::string_view value, log_level& into) {
    const auto* const found = std::find(k_levels.begin(), k_levels.end(), value);
    if (found == k_levels.end()) return "debug, info, warning or error";
    into = static_cast<log_level>(found - k_levels.begin());
    return {};
}

}  // namespace

std::span<const setting> all_settings() { return k_settings; }

std::string help_of(const setting& s) {
    const settings usual;
    std::string text(s.text);
    if (const auto* level = std::get_if<log_level settings::*>(&s.place))
        text.append(" (default: ")
            .append(k_levels.at(static_cast<std::size_t>(usual.**level)))
            .append(")");
    if (const auto* number = std::get_if<std::size_t quotas::*>(&s.place))
        text += " (default: " + std::to_string(usual.most.**number) + ")";
    return text;
}

std::string take(const setting& s, std::string_view value, settings& into) {
    if (const auto* text = std::get_if<std::string settings::*>(&s.place)) {
        if (value.empty()) return "a path";
        into.** text = value;
        return {};
    }
    if (const auto* level = std::get_if<log_level settings::*>(&s.place))
        return take_level(value, into.**level);
    return take_number(value, into.most.*std::get<std::size_t quotas::*>(s.place));
}

}  // namespace cleanfork::daemon
