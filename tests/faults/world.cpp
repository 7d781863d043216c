#include "tests/faults/world.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "ipc/base/proc.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/process_stat.hpp"

namespace cleanfork::faults {

namespace {

using namespace std::chrono_literals;
constexpr auto k_patience = 10s;

std::vector<pid_t> children_of(pid_t pid) {
    const std::string id = std::to_string(pid);
    const auto text = ipc::read_file(AT_FDCWD, "/proc/" + id + "/task/" + id + "/children");
    std::istringstream words(text.value_or(""));
    std::vector<pid_t> all;
    for (pid_t child = 0; words >> child;) all.push_back(child);
    return all;
}

std::string name_of(pid_t pid) {
    return ipc::read_line(AT_FDCWD, "/proc/" + std::to_string(pid) + "/comm");
}

void gather(pid_t pid, const std::string& name, family& out) {
    for (const pid_t child : children_of(pid)) {
        const auto stat = ipc::stat_of(child);
        if (!stat) continue;
        const std::string own = name_of(child) + (stat->state == 'Z' ? " (zombie)" : "");
        ++out[name + "/" + own];
        gather(child, own, out);
    }
}

std::string to_text(const family& f) {
    std::string all;
    for (const auto& [name, count] : f)
        all += (all.empty() ? "" : ", ") + std::to_string(count) + " " + name;
    return all;
}

std::string program(const char* variable, const char* otherwise) {
    const char* value = std::getenv(variable);
    return value != nullptr ? value : otherwise;
}

}  // namespace

pid_t fork_process() {
    const pid_t pid = ::fork();
    if (pid < 0) {
        std::perror("faults: fork");
        std::exit(3);
    }
    if (pid == 0) ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

unique_fd pair_of_sockets(unique_fd& other) {
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        std::perror("faults: socketpair");
        std::exit(3);
    }
    other.reset(fds[1]);
    return unique_fd(fds[0]);
}

world::world(watch& w) : watch_(w) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    std::string pattern = program("TMPDIR", "/tmp") + "/faults-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::perror("mkdtemp"), std::exit(3);
    places_.directory = pattern;
    places_.socket = pattern + "/socket";
    places_.bin = program("CLEANFORK_BIN", CLEANFORK_BIN_DIR);
    places_.helpers = program("CLEANFORK_TEST_HELPERS", CLEANFORK_TEST_HELPER_DIR);
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) std::perror("pipe"), std::exit(3);
    ran_read_.reset(fds[0]);
    ran_write_.reset(fds[1]);
    ::fcntl(fds[0], F_SETFL, O_NONBLOCK);
    places_.ran = fds[1];
    log_.reset(::memfd_create("log", MFD_CLOEXEC));
    const std::string table = places_.directory + "-allocations";
    table_ = test::map_faults(table.c_str());
    if (table_ == nullptr) std::perror(table.c_str()), std::exit(3);
}

world::~world() {
    kill_all();
    std::error_code ignored;
    std::filesystem::remove_all(places_.directory, ignored);
    std::filesystem::remove(places_.directory + "-allocations", ignored);
}

std::optional<int> world::start_daemon() {
    daemon_status_.reset();
    table_->held = 0;
    (void)::ftruncate(log_.get(), 0);
    ::lseek(log_.get(), 0, SEEK_SET);
    const std::string path = places_.bin + "/cleanforkd";
    daemon_ = fork_watched(role::daemon, [&] {
        ::fcntl(log_.get(), F_SETFL, O_APPEND);
        ::dup2(log_.get(), 2);
        ::setenv("LD_PRELOAD", (places_.helpers + "/library_faults.so").c_str(), 1);
        ::setenv(test::k_faults_variable, (places_.directory + "-allocations").c_str(), 1);
        ::execl(path.c_str(), path.c_str(), "--socket", places_.socket.c_str(), "--max-events", "1",
                nullptr);
        ::_exit(98);
    });
    daemon_pidfd_ = ipc::pidfd_open(daemon_);
    places_.daemon = daemon_pidfd_.get();
    watch_.serve(-1, watch::clock::now() + k_patience,
                 [&] { return watch_.is_idle(daemon_) || !daemon_lives(); });
    if (!daemon_lives()) return daemon_status();
    return std::nullopt;
}

std::string world::begin() {
    kill_all();
    first_.reset();
    baseline_.clear();
    std::filesystem::remove_all(places_.directory);
    std::filesystem::create_directory(places_.directory);
    ::chmod(places_.directory.c_str(), 0700);
    if (const auto ended = start_daemon())
        return "the forkserver does not start: " + ipc::ended_how(*ended) + "; " + log();
    return await_baseline(true);
}

std::string world::await_baseline(bool is_first) {
    if (neighbour_ == 0) {
        unique_fd theirs;
        neighbour_socket_ = pair_of_sockets(theirs);
        neighbour_ = fork_process();
        if (neighbour_ == 0) {
            watch_.close_all();
            neighbour_socket_.reset();
            be_neighbour(places_, theirs.get());
        }
    }
    const std::uint64_t descriptors = is_first ? 0 : first_->descriptors;
    (void)::send(neighbour_socket_.get(), &descriptors, sizeof descriptors, MSG_NOSIGNAL);
    if (!watch_.serve(neighbour_socket_.get(), watch::clock::now() + 3 * k_patience))
        return "the neighbour hangs: " + watch_.where_all_are();
    neighbours_answer a{};
    if (::recv(neighbour_socket_.get(), &a, sizeof a, 0) != sizeof a)
        return "the neighbour has ended";
    if (!a.is_well) return a.text;
    if (is_first) {
        first_ = a;
        // Also what ends after it was waited for: the template's child.
        watch_.serve(-1, watch::clock::now() + 50ms, [] { return false; });
        baseline_ = look();
        return {};
    }
    return await_family();
}

family world::look() const {
    family f;
    gather(::getpid(), "", f);
    return f;
}

std::string world::await_family() {
    family now;
    const bool settled = watch_.serve(-1, watch::clock::now() + 2s, [&] {
        reap();
        now = look();
        return now == baseline_;
    });
    return settled ? "" : "processes: " + to_text(now) + "; not: " + to_text(baseline_);
}

void world::await_quiet() {
    watch_.serve(-1, watch::clock::now() + 1s, [&] {
        reap();
        if (daemon_lives() && !watch_.is_idle(daemon_)) return false;
        const family now = look();
        return std::all_of(now.begin(), now.end(), [&](const auto& each) {
            const auto usual = baseline_.find(each.first);
            return usual != baseline_.end() && each.second <= usual->second;
        });
    });
}

std::string world::end_daemon() {
    if (!daemon_lives()) return {};
    ::kill(daemon_, SIGTERM);
    watch_.serve(daemon_pidfd_.get(), watch::clock::now() + k_patience);
    const auto status = daemon_status();
    if (!status) return "SIGTERM does not end the forkserver";
    if (*status != 0) return "at SIGTERM it " + ipc::ended_how(*status);
    return {};
}

void world::kill_all() {
    for (;;) {
        const auto all = children_of(::getpid());
        for (const pid_t pid : all) ::kill(pid, SIGKILL);
        while (::waitpid(-1, nullptr, WNOHANG) > 0) continue;
        if (children_of(::getpid()).empty()) break;
        watch_.serve(-1, watch::clock::now() + 2ms, [] { return false; });
    }
    watch_.close_all();
    daemon_ = neighbour_ = 0;
    neighbour_socket_.reset();
    (void)take_ran();
}

bool world::daemon_lives() { return daemon_ != 0 && !daemon_status(); }

std::optional<int> world::daemon_status() {
    int status = 0;
    if (!daemon_status_ && daemon_ != 0 && ::waitpid(daemon_, &status, WNOHANG) == daemon_)
        daemon_status_ = status;
    return daemon_status_;
}

void world::reap(pid_t client) {
    (void)daemon_status();
    for (const pid_t pid : children_of(::getpid()))
        if (pid != daemon_ && pid != neighbour_ && pid != client) ::waitpid(pid, nullptr, WNOHANG);
}

std::string world::log() const {
    constexpr off_t k_last = 2000;
    std::string text(k_last, '\0');
    const off_t size = ::lseek(log_.get(), 0, SEEK_END);
    const ssize_t n =
        ::pread(log_.get(), text.data(), text.size(), std::max<off_t>(0, size - k_last));
    text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return text;
}

std::vector<std::string> world::files() const {
    std::vector<std::string> all;
    for (const auto& entry : std::filesystem::directory_iterator(places_.directory))
        all.push_back(entry.path().filename());
    std::sort(all.begin(), all.end());
    return all;
}

std::string world::take_ran() {
    std::string all(200, '\0');
    const ssize_t n = ::read(ran_read_.get(), all.data(), all.size());
    all.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return all;
}

}  // namespace cleanfork::faults
