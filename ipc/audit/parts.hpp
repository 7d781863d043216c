// What audit() and clean_proof share; nothing is allocated until there is something to
// report. Not for others.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "ipc/audit/audit.hpp"
#include "ipc/base/proc.hpp"

namespace cleanfork::ipc::audit_parts {

// A failure of the audit of `pid` at /proc/PID/`file`. A process that has ended is
// ENOENT or ESRCH, depending on the file: here always ESRCH.
failure failed(pid_t pid, int error_number, std::string_view file);

// "SIGTERM", "SIGRTMIN+3", "signal 32".
std::string signal_text(int number);

// Adds the descriptors of `dir`, an open /proc/PID/fd, that are hazards and not
// allowed, and counts all. Returns errno of what kept it from that, or 0.
int add_descriptors(audit_report& report, int dir, std::span<const int> allowed);

// The same for the threads of `tasks`, an open /proc/PID/task, but the main one and those
// that a fork does not disturb.
int add_threads(audit_report& report, int tasks);
// Adds whose they are to the threads among the findings: milliseconds for a large process.
void describe_threads(audit_report& report, int tasks);

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
