// What /proc tells, of this process and of others.
#pragma once

#include <dirent.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cleanfork::ipc {

// ---- reading

// All of a file below the directory `dir`, or AT_FDCWD. Empty with errno when it cannot be read.
std::optional<std::string> read_file(int dir, const std::string& path);
// The only line of a file, as /proc/PID/comm has it; empty when it cannot be read.
std::string read_line(int dir, const std::string& path);
// The target of a link of any length, empty when it cannot be read.
std::string read_link(int dir, const std::string& path);

// What follows `key` up to the end of its line in a file like /proc/PID/status.
std::string_view field(std::string_view text, std::string_view key);

// The number at the beginning of `text`, or `otherwise`.
template <class Number = int>
Number to_number(std::string_view text, int base = 10, Number otherwise = 0) {
    Number n{};
    const auto end = text.data() + text.size();
    return std::from_chars(text.data(), end, n, base).ec == std::errc() ? n : otherwise;
}

// Calls each(name, number) for the entries of a /proc directory that are numbers,
// from its beginning. Returns errno, or 0.
template <class Each>
int each_number(int dir, Each each) {
    // Some 170 descriptors a call; nothing is allocated.
    alignas(dirent64) char buffer[4096];
    if (::lseek(dir, 0, SEEK_SET) != 0) return errno;
    for (;;) {
        const ssize_t size = ::getdents64(dir, buffer, sizeof buffer);
        if (size <= 0) return size == 0 ? 0 : errno;
        for (ssize_t at = 0; at < size;) {
            const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
            at += entry->d_reclen;
            const char* name = static_cast<const char*>(entry->d_name);
            if (*name >= '0' && *name <= '9') each(name, to_number(name));
        }
    }
}

// ---- this process

// What a child of fork and exec has of its parent, besides what the parent can ask for.
struct inherited_state {
    // Exact always: where /proc does not tell, umask(2) is set to 077 for the moment it takes to
    // read it, so that a file that another thread creates then is narrower, never wider.
    mode_t umask = 0;
    std::vector<int> ignored_signals;
};
// Of this process, as the kernel has it: one read of /proc, where there is one.
inherited_state own_inherited_state();
mode_t own_umask();
// Without /proc: by asking for each.
std::vector<int> own_ignored_signals();

// What is resident of it, in KiB; 0 when /proc does not tell.
std::uint64_t resident_kib();

// Where cgroup v2 is mounted, as far as this process sees it.
std::vector<std::string> cgroup_mounts();

}  // namespace cleanfork::ipc
