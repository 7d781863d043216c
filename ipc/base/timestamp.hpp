// A moment as the log has it.
#pragma once

#include <array>
#include <cstdio>
#include <ctime>
#include <string>

namespace cleanfork::ipc {

// Of CLOCK_REALTIME, in UTC: "2026-11-30T12:58:01.204Z".
inline std::string timestamp(const timespec& at) {
    tm parts{};
    ::gmtime_r(&at.tv_sec, &parts);
    std::array<char, 40> text{};
    const std::size_t n = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
    std::snprintf(text.data() + n, text.size() - n, ".%03ldZ", at.tv_nsec / 1'000'000);
    return text.data();
}

}  // namespace cleanfork::ipc
