#include "ipc/audit/audit.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cleanfork/unique_fd.hpp>
#include <csignal>
#include <sstream>

#include "ipc/audit/parts.hpp"

namespace cleanfork::ipc {

using namespace audit_parts;

namespace {

unique_fd open_directory(int dir, const std::string& path) {
    return unique_fd(::openat(dir, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

// One audit of one process, whose directories in /proc stay its own when it ends.
class examination {
public:
    examination(pid_t pid, const audit_options& options) : options_(options) { report_.pid = pid; }

    result<audit_report> run();

private:
    // Each returns errno, or 0, and leaves the file it was about in file_.
    int open();
    int threads();
    int descriptors();
    int locks();
    int mappings();
    int timers();
    int children();

    void add_locks_of(const std::string& info, int number, const std::string& path);
    void add_position_of(const std::string& info, int number, std::string path);
    void add_mapping(const std::string& path);
    void add_child(int number);
    [[nodiscard]] std::optional<hazard> of_mapping(const std::string& path) const;
    [[nodiscard]] bool is_allowed(int descriptor) const;
    [[nodiscard]] bool is_of_allowed_descriptor(const std::string& path) const;

    void add(hazard kind, int number, std::string name, std::string what) {
        report_.findings.push_back({kind, number, std::move(name), std::move(what)});
    }

    const audit_options& options_;
    audit_report report_;
    std::string status_;  // the file
    std::string file_;
    unique_fd process_;
    unique_fd task_;  // of a thread that lives: the main one may have ended
};

int examination::open() {
    file_ = "";
    // /proc may belong to another pid namespace, where our number is another's.
    const std::string path =
        report_.pid == ::getpid() ? "/proc/self" : "/proc/" + std::to_string(report_.pid);
    process_ = open_directory(AT_FDCWD, path);
    if (!process_) return errno;
    const auto status = read_file(process_.get(), "status");
    if (!status) return errno;
    status_ = *status;
    if (!is_alive(status_)) return ESRCH;
    report_.pid = to_number(field(status_, "Tgid:"));
    report_.name = read_line(process_.get(), "comm");
    return 0;
}

int examination::threads() {
    file_ = "task";
    const unique_fd tasks = open_directory(process_.get(), "task");
    if (!tasks) return errno;
    if (const int error = add_threads(report_, tasks.get())) return error;
    describe_threads(report_, tasks.get());
    if (report_.threads == 0) return ESRCH;
    // The zombie of a main thread has no descriptors and no memory any more.
    const bool ended = field(status_, "State:").starts_with('Z');
    const int living =
        ended && !report_.findings.empty() ? report_.findings.front().number : report_.pid;
    task_ = open_directory(tasks.get(), std::to_string(living));
    return task_ ? 0 : errno;
}

int examination::descriptors() {
    file_ = "fd";
    const unique_fd dir = open_directory(task_.get(), "fd");
    if (!dir) return errno;
    if (const int error = add_descriptors(report_, dir.get(), options_.allowed_descriptors))
        return error;
    describe_sockets(report_, task_.get(), "");
    return 0;
}

int examination::locks() {
    file_ = "fdinfo";
    const unique_fd dir = open_directory(task_.get(), "fdinfo");
    if (!dir) return errno;
    return each_number(dir.get(), [&](const char* name, int number) {
        if (is_allowed(number)) return;
        const std::string info = read_file(dir.get(), name).value_or("");
        std::string path = read_link(task_.get(), "fd/" + std::string(name));
        add_locks_of(info, number, path);
        add_position_of(info, number, std::move(path));
    });
}

// Of regular files, memfds too: what else has a path has no position that matters.
void examination::add_position_of(const std::string& info, int number, std::string path) {
    struct stat file {};
    if (!path.starts_with('/') ||
        ::fstatat(task_.get(), ("fd/" + std::to_string(number)).c_str(), &file, 0) != 0 ||
        !S_ISREG(file.st_mode))
        return;
    const auto at = to_number<std::uint64_t>(field(info, "pos:"));
    report_.positions.push_back({number, at, std::move(path)});
}

// Of lines like "lock:\t1: FLOCK  ADVISORY  WRITE 4711 fe:00:4712 0 EOF".
void examination::add_locks_of(const std::string& info, int number, const std::string& path) {
    std::istringstream lines(info);
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with("lock:")) continue;
        std::istringstream words(line);
        std::string key, count, kind, advisory, access;
        words >> key >> count >> kind >> advisory >> access;
        add(hazard::file_lock, number, path,
            std::to_string(number) + " " + kind + " " + access + " " + path);
    }
}

int examination::mappings() {
    file_ = "maps";
    const auto text = read_file(task_.get(), "maps");
    if (!text) return errno;
    std::istringstream lines(*text);
    std::string previous;
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string range, access, offset, device, node, path;
        words >> range >> access >> offset >> device >> node >> std::ws;
        if (!std::getline(words, path) || path == std::exchange(previous, path)) continue;
        add_mapping(path);
    }
    return 0;
}

void examination::add_mapping(const std::string& path) {
    const auto kind = of_mapping(path);
    if (!kind) return;
    // A ring or counter was seen as a descriptor, unless that was closed.
    const bool anonymous = path.starts_with("anon_inode:");
    for (const finding& f : report_.findings)
        if (f.kind == kind && (anonymous || (f.number < 0 && f.name == path))) return;
    if (!is_of_allowed_descriptor(path)) add(*kind, -1, path, "mapped " + path);
}

std::optional<hazard> examination::of_mapping(const std::string& path) const {
    const auto begins = [&](const char* with) { return path.starts_with(with); };
    if (begins("/[aio]")) return hazard::aio;
    if (begins("/dmabuf:")) return hazard::device;
    if (begins("anon_inode:")) return of_kernel_object(path);
    // "/dev/zero (deleted)" is the kernel's name for shared anonymous memory.
    if (!begins("/dev/") || begins("/dev/shm/") || begins("/dev/hugepages/") || begins("/dev/zero"))
        return {};
    struct stat node {};
    if (::fstatat(task_.get(), ("root" + path).c_str(), &node, 0) == 0 &&
        !is_hazardous_device(node.st_mode, major(node.st_rdev), minor(node.st_rdev)))
        return {};
    return hazard::device;
}

bool examination::is_allowed(int descriptor) const {
    const auto& allowed = options_.allowed_descriptors;
    return std::find(allowed.begin(), allowed.end(), descriptor) != allowed.end();
}

bool examination::is_of_allowed_descriptor(const std::string& path) const {
    const auto& allowed = options_.allowed_descriptors;
    return std::any_of(allowed.begin(), allowed.end(), [&](int number) {
        return read_link(task_.get(), "fd/" + std::to_string(number)) == path;
    });
}

// Of paragraphs that begin with "ID: 0", "signal: 14/0000", see proc(5).
int examination::timers() {
    file_ = "timers";
    const auto text = read_file(process_.get(), "timers");
    if (!text) return errno == ENOENT ? 0 : errno;  // a kernel without CONFIG_CHECKPOINT_RESTORE
    constexpr std::string_view k_begin = "ID: ";
    std::istringstream lines(*text);
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with(k_begin)) continue;
        const int id = to_number(std::string_view(line).substr(k_begin.size()));
        std::string signal, notify;
        std::getline(lines, signal);
        std::getline(lines, notify);
        std::string name = std::string(field(notify, "notify:"));
        std::string what = std::to_string(id) + " " + name;
        if (!name.starts_with("none"))
            what += ", " + signal_text(to_number(field(signal, "signal:")));
        add(hazard::posix_timer, id, std::move(name), std::move(what));
    }
    return 0;
}

int examination::children() {
    file_ = "task/children";
    const unique_fd tasks = open_directory(process_.get(), "task");
    if (!tasks) return errno;
    bool supported = true;
    const int error = each_number(tasks.get(), [&](const char* thread, int) {
        const auto text = read_file(tasks.get(), std::string(thread) + "/children");
        if (!text) {
            supported = supported && errno != ENOENT;
            return;
        }
        std::istringstream numbers(*text);
        for (int child = 0; numbers >> child;) add_child(child);
    });
    if (error != 0 || supported) return error;
    // A kernel without CONFIG_PROC_CHILDREN, or a thread that ended meanwhile.
    std::erase_if(report_.findings, [](const finding& f) { return f.kind == hazard::child; });
    file_ = "..";
    const unique_fd all = open_directory(AT_FDCWD, "/proc");
    if (!all) return errno;
    return each_number(all.get(), [&](const char* name, int number) {
        const std::string status = read_file(all.get(), std::string(name) + "/status").value_or("");
        if (to_number(field(status, "PPid:")) == report_.pid) add_child(number);
    });
}

void examination::add_child(int number) {
    const auto& allowed = options_.allowed_children;
    if (std::find(allowed.begin(), allowed.end(), number) != allowed.end()) return;
    const std::string path = "/proc/" + std::to_string(number);
    std::string name = read_line(AT_FDCWD, path + "/comm");
    const std::string status = read_file(AT_FDCWD, path + "/status").value_or("");
    if (status.empty()) return;  // ended and reaped meanwhile
    std::string what = std::to_string(number) + " " + name;
    if (field(status, "State:").starts_with('Z')) what += ", ended and not reaped";
    add(hazard::child, number, std::move(name), std::move(what));
}

result<audit_report> examination::run() {
    int error = open();
    if (error == 0) error = threads();
    if (error == 0 && options_.descriptors) error = descriptors();
    if (error == 0 && options_.descriptors && options_.locks) error = locks();
    if (error == 0 && options_.mappings) error = mappings();
    if (error == 0 && options_.timers) error = timers();
    if (error == 0 && options_.children) error = children();
    if (error != 0) return failed(report_.pid, error, file_);
    // One that ended while we looked has shown nothing, and is not safe for that.
    const auto status = read_file(process_.get(), "status");
    if (!status) return failed(report_.pid, errno, "status");
    status_ = *status;
    if (!is_alive(status_)) return failed(report_.pid, ESRCH, "");
    if (options_.signals) add_pending_signals(report_, status_);
    std::stable_sort(report_.findings.begin(), report_.findings.end(),
                     [](const finding& a, const finding& b) { return a.kind < b.kind; });
    return std::move(report_);
}

}  // namespace

result<audit_report> audit(pid_t pid, const audit_options& options) {
    return examination(pid, options).run();
}

}  // namespace cleanfork::ipc
