#include "ipc/audit/parts.hpp"

#include <fcntl.h>

#include <cleanfork/unique_fd.hpp>

#include "ipc/audit/thread_origins.hpp"
#include "ipc/audit/threads.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::ipc::audit_parts {

failure failed(pid_t pid, int error_number, std::string_view file) {
    std::string object = "/proc/" + std::to_string(pid);
    if (!file.empty()) object += "/" + std::string(file);
    if (error_number == ENOENT || error_number == ESRCH)
        return fail(k_audit_step, ESRCH, std::move(object), "no such process, or it has ended");
    if (error_number == EACCES || error_number == EPERM)
        return fail(
            k_audit_step, error_number, std::move(object),
            "this needs the user of the process and all of its capabilities, see ptrace(2)");
    return fail(k_audit_step, error_number, std::move(object));
}

bool is_alive(std::string_view status) {
    const std::string_view state = field(status, "State:");
    const bool ended = state.empty() || state.starts_with('Z') || state.starts_with('X');
    return !ended || to_number(field(status, "Threads:")) > 1;
}

void add_pending_signals(audit_report& report, std::string_view status) {
    const auto mask = [&](std::string_view key) {
        return to_number<std::uint64_t>(field(status, key), 16);
    };
    // One that is not blocked is on its way this moment: a SIGKILL, of a process that ends.
    const std::uint64_t pending = (mask("SigPnd:") | mask("ShdPnd:")) & mask("SigBlk:");
    if (pending == 0) return;
    for (int signal = 1; signal <= 64; ++signal) {
        if ((pending >> (signal - 1) & 1U) == 0) continue;
        std::string name = signal_text(signal);
        report.findings.push_back({hazard::pending_signal, signal, name, name});
    }
}

int add_threads(audit_report& report, int tasks) {
    const unique_fd dir(::openat(tasks, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir) return errno;
    report.threads = 0;
    return each_number(dir.get(), [&](const char* name, int number) {
        ++report.threads;
        if (number == report.pid) return;
        thread_state state;
        switch (state.read(dir.get(), name)) {
            case thread_state::kind::gone: --report.threads; return;
            case thread_state::kind::harmless: return;
            case thread_state::kind::hazardous: break;
        }
        const std::string comm(state.name());
        report.findings.push_back(
            {hazard::thread, number, comm, comm + " (" + std::string(name) + ")"});
    });
}

void describe_threads(audit_report& report, int tasks) {
    thread_origins origins(tasks);
    for (finding& f : report.findings) {
        if (f.kind != hazard::thread) continue;
        f.library = origins.of(std::to_string(f.number).c_str(), f.number);
        if (!f.library.empty()) f.what += ", started by " + f.library;
    }
}

}  // namespace cleanfork::ipc::audit_parts
