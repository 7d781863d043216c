#include "ipc/audit/clean_proof.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "ipc/audit/parts.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

using namespace audit_parts;

namespace {

// Linux tells the number of open descriptors as the size of /proc/PID/fd since 6.2;
// before that it is 0, though this process has one open.
bool kernel_counts_descriptors() {
    const unique_fd one(::open("/proc/self/fd", O_PATH | O_CLOEXEC));
    struct stat dir {};
    return one && ::fstat(one.get(), &dir) == 0 && dir.st_size > 0;
}

}  // namespace

result<clean_proof> clean_proof::open(pid_t pid) {
    // /proc may belong to another pid namespace, where our number is another's.
    const std::string path = pid == ::getpid() ? "/proc/self" : "/proc/" + std::to_string(pid);
    const unique_fd process(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!process) return failed(pid, errno, "");
    const auto text = read_file(process.get(), "status");
    if (!text) return failed(pid, errno, "status");
    if (!is_alive(*text)) return failed(pid, ESRCH, "status");
    clean_proof proof;
    proof.pid_ = to_number(field(*text, "Tgid:"));
    proof.status_.reset(::openat(process.get(), "status", O_RDONLY | O_CLOEXEC));
    if (!proof.status_) return failed(pid, errno, "status");
    proof.tasks_.reset(::openat(process.get(), "task", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!proof.tasks_) return failed(pid, errno, "task");
    proof.descriptors_.reset(::openat(process.get(), "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!proof.descriptors_) return failed(pid, errno, "fd");
    proof.counts_descriptors_ = kernel_counts_descriptors();
    return proof;
}

result<process_counts> clean_proof::counts() const {
    struct stat dir {};
    if (::fstat(tasks_.get(), &dir) != 0) return failed(pid_, errno, "task");
    // "." and "..", then a link for each thread: proc_task_getattr() of the kernel. For
    // a process that was reaped it succeeds, without threads.
    constexpr nlink_t k_without_threads = 2;
    if (dir.st_nlink <= k_without_threads) return failed(pid_, ESRCH, "task");
    process_counts counts{dir.st_nlink - k_without_threads, {}};
    if (!counts_descriptors_) return counts;
    if (::fstat(descriptors_.get(), &dir) != 0) return failed(pid_, errno, "fd");
    counts.descriptors = static_cast<std::size_t>(dir.st_size);
    return counts;
}

// Pending signals, and that the process lives: last of all, since one that has ended
// shows no descriptor.
int clean_proof::add_status(audit_report& report) const {
    std::array<char, 4096> buffer;
    const ssize_t size =
        retry([&] { return ::pread(status_.get(), buffer.data(), buffer.size(), 0); });
    if (size < 0) return errno;
    std::string_view text(buffer.data(), static_cast<std::size_t>(size));
    std::string longer;  // thousands of groups
    if (field(text, "ShdPnd:").empty()) {
        const auto all = read_file(tasks_.get(), "../status");
        if (!all) return errno;
        longer = *all;
        text = longer;
    }
    if (!is_alive(text)) return ESRCH;
    add_pending_signals(report, text);
    for (const char* const set : {"SigIgn:", "SigCgt:"})
        report.changed_signals |= to_number<std::uint64_t>(field(text, set), 16);
    return 0;
}

result<audit_report> clean_proof::check(std::span<const int> allowed,
                                        std::span<const ino_t> passing, threads t) const {
    struct stat dir {};
    if (::fstat(tasks_.get(), &dir) != 0) return failed(pid_, errno, "task");
    audit_report report;
    report.pid = pid_;
    report.threads = dir.st_nlink - std::min<nlink_t>(dir.st_nlink, 2);
    if (report.threads == 0) return failed(pid_, ESRCH, "task");
    if (report.threads > 1)
        if (const int error = add_threads(report, tasks_.get())) return failed(pid_, error, "task");
    if (const int error = add_descriptors(report, descriptors_.get(), allowed))
        return failed(pid_, error, "fd");
    std::erase_if(report.findings, [passing](const finding& f) {
        return std::any_of(passing.begin(), passing.end(), [&f](ino_t i) {
            return f.name == "socket:[" + std::to_string(i) + "]";
        });
    });
    if (const int error = add_status(report)) return failed(pid_, error, "status");
    if (!report.safe()) {
        describe_sockets(report, tasks_.get(), "../");
        if (t == threads::described) describe_threads(report, tasks_.get());
        report.name = read_line(tasks_.get(), "../comm");
    }
    return report;
}

}  // namespace cleanfork::ipc
