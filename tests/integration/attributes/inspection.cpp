#include "tests/integration/attributes/inspection.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

#include "ipc/base/sys.hpp"

namespace cleanfork::test {

namespace {

std::string daemon_path() { return CLEANFORK_BIN_DIR "/cleanforkd"; }

std::string read_to_end(int fd) {
    std::string text;
    char part[4096];
    for (;;) {
        const ssize_t n = ipc::retry([&] { return ::read(fd, part, sizeof part); });
        if (n <= 0) return text;
        text.append(part, static_cast<std::size_t>(n));
    }
}

void become(uid_t uid) {
    if (uid != ::geteuid() && (::setgroups(0, nullptr) != 0 || ::setresgid(uid, uid, uid) != 0 ||
                               ::setresuid(uid, uid, uid) != 0))
        throw std::runtime_error("cannot become user " + std::to_string(uid));
    // A change of user makes /proc/PID root's: path_of() would be closed.
    ::prctl(PR_SET_DUMPABLE, 1);
}

}  // namespace

std::string helper(std::string_view name) {
    return std::string(CLEANFORK_TEST_HELPER_DIR) + "/" + std::string(name);
}

scoped_variable::scoped_variable(const char* name, const std::string& value) : name_(name) {
    if (const char* now = std::getenv(name)) before_ = now;
    ::setenv(name, value.c_str(), 1);
}

scoped_variable::~scoped_variable() {
    if (before_)
        ::setenv(name_, before_->c_str(), 1);
    else
        ::unsetenv(name_);
}

client launch_without(const std::string& features, const launch_options& options) {
    const scoped_variable off("CLEANFORK_DISABLE_FEATURES", features);
    launch_options o = options;
    if (o.daemon.empty()) o.daemon = daemon_path();
    if (o.log_fd < 0 && std::getenv("CLEANFORK_TEST_LOG") != nullptr) o.log_fd = 2;
    return launch(o);
}

client launch_denying(const std::vector<std::string>& rules, const std::string& features_off) {
    // Who is not root may filter only with this, and a forkserver that has it is no other's.
    if (::geteuid() != 0) ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    launch_options o;
    o.daemon = helper("deny");
    for (const std::string& r : rules) o.daemon_args.push_back("--deny=" + r);
    o.daemon_args.push_back("--program=" + daemon_path());
    return launch_without(features_off, o);
}

const std::vector<std::string>& variants() {
    static const std::vector<std::string> all = {
        "",
        "close_range_unshare",
        "clone_into_cgroup",
        "cgroup_kill",
        "pidfd_signal_group",
        "close_range_unshare,clone_into_cgroup,cgroup_kill,pidfd_signal_group"};
    return all;
}

void with_each_variant(const std::function<void(const client&)>& body) {
    static std::map<std::string, client> clients;
    for (const std::string& off : variants()) {
        auto at = clients.find(off);
        if (at == clients.end()) at = clients.emplace(off, launch_without(off)).first;
        INFO("features forced off: " << off);
        body(at->second);
    }
}

json inspect(const client& c, spawn_options o) {
    if (const auto* name = std::get_if<std::string>(&o.program); name != nullptr && name->empty())
        o.program = helper("inspect");
    if (std::holds_alternative<stdio::null>(o.out)) o.out = stdio::pipe{};
    const run_result r = c.run(o);
    if (!r.status.success()) throw std::runtime_error("inspect " + r.status.to_string());
    return json::parse(r.out);
}

std::optional<std::string> variable(const json& report, const std::string& name) {
    for (const std::string entry : report.at("environment"))
        if (entry.starts_with(name + "=")) return entry.substr(name.size() + 1);
    return std::nullopt;
}

std::vector<pid_t> children_of(pid_t pid) {
    std::vector<pid_t> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const std::string name = entry.path().filename();
        if (name.find_first_not_of("0123456789") != std::string::npos) continue;
        std::ifstream in(entry.path() / "stat");
        std::string text;
        std::getline(in, text, '\0');
        const std::size_t end = text.rfind(')');
        if (end == std::string::npos) continue;  // it has ended meanwhile
        std::istringstream fields(text.substr(end + 1));
        std::string state;
        pid_t parent = 0;
        fields >> state >> parent;
        if (parent == pid) found.push_back(std::stoi(name));
    }
    std::sort(found.begin(), found.end());
    return found;
}

leftovers leftovers_of(const client& c) {
    const server_stats s = c.stats();
    return {s.descriptors, s.children, s.statuses, children_of(s.pid)};
}

json as_user(uid_t uid, const std::function<json()>& body) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    unique_fd read_end(ends[0]), write_end(ends[1]);
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        read_end.reset();
        json value;
        try {
            become(uid);
            value = body();
        } catch (const std::exception& e) {
            value = {{"error", e.what()}};
        }
        const std::string text = value.dump(-1, ' ', true);
        const bool whole =
            ::write(write_end.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
        ::_exit(whole ? 0 : 1);  // nothing of the parent's is destroyed or flushed twice
    }
    write_end.reset();
    const std::string text = read_to_end(read_end.get());
    int status = 0;
    REQUIRE(ipc::retry([&] { return ::waitpid(pid, &status, 0); }) == pid);
    REQUIRE(status == 0);
    return json::parse(text);
}

std::string path_of(const unique_fd& fd) {
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd.get());
}

unique_fd open_program(const std::string& path) {
    unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(fd);
    return fd;
}

bool capable(int capability) {
    std::ifstream in("/proc/self/status");
    for (std::string line; std::getline(in, line);)
        if (line.starts_with("CapEff:"))
            return (std::stoull(line.substr(7), nullptr, 16) >> capability & 1) != 0;
    return false;
}

bool skipped_without_root(const char* what) {
    if (::geteuid() == 0) return false;
    MESSAGE("skipped, needs root: " << what);
    return true;
}

}  // namespace cleanfork::test
