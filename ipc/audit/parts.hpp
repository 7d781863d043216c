// What audit() and clean_proof share: reading /proc without allocating until there
// is something to report. Not for others.
#pragma once

#include <dirent.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "ipc/audit/audit.hpp"

namespace cleanfork::ipc::audit_parts {

// A failure of the audit of `pid` at /proc/PID/`file`. A process that has ended is
// ENOENT or ESRCH, depending on the file: here always ESRCH.
failure failed(pid_t pid, int error_number, std::string_view file);

// All of a file below `dir`. Empty with errno when it cannot be read.
std::optional<std::string> read_file(int dir, const std::string& path);
// The only line of a file, as /proc/PID/comm has it; empty when it cannot be read.
std::string read_line(int dir, const std::string& path);
// The target of a link of any length, empty when it cannot be read.
std::string read_link(int dir, const std::string& path);

// What follows `key` up to the end of its line in a file like /proc/PID/status.
std::string_view field(std::string_view text, std::string_view key);

// "SIGTERM", "SIGRTMIN+3", "signal 32".
std::string signal_text(int number);

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

// Adds the descriptors of `dir`, an open /proc/PID/fd, that are hazards and not
// allowed, and counts all. Returns errno of what kept it from that, or 0.
int add_descriptors(audit_report& report, int dir, std::span<const int> allowed);

// The same for the threads of `tasks`, an open /proc/PID/task, but the main one.
int add_threads(audit_report& report, int tasks);

// For sockets among the findings: protocol and addresses. `to_process` leads from
// `dir` to the directory that has net and fd: "" or "../".
void describe_sockets(audit_report& report, int dir, const std::string& to_process);

// By a link that is no path, like "anon_inode:[eventpoll]"; nothing when harmless.
std::optional<hazard> of_kernel_object(std::string_view link);
// Of a device node, by its type and numbers.
bool is_hazardous_device(unsigned mode, unsigned major, unsigned minor);

// For the text of /proc/PID/status. A process that ended and was not reaped is dead;
// not so one whose main thread has ended before others.
bool is_alive(std::string_view status);
// Of the process, and of its main thread.
void add_pending_signals(audit_report& report, std::string_view status);

}  // namespace cleanfork::ipc::audit_parts
