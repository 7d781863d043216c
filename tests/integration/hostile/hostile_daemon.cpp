#include "tests/integration/hostile/hostile_daemon.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/socket_path.hpp"

namespace cleanfork::testing {

namespace {

std::string variable_or(const char* name, const char* otherwise) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0' ? value : otherwise;
}

// No file and no directory: whoever knows the name reaches it, whatever their uid.
struct abstract_address {
    sockaddr_un address{};
    socklen_t size = 0;

    explicit abstract_address(const std::string& name) {
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path + 1, name.data(), name.size());
        size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    }
    [[nodiscard]] const sockaddr* get() const {
        return reinterpret_cast<const sockaddr*>(&address);
    }
};

std::string unique_name(const char* what) {
    static std::atomic<int> count = 0;
    return std::string("cleanfork-test-") + what + "-" + std::to_string(::getpid()) + "-" +
           std::to_string(++count);
}

unique_fd bind_abstract(const std::string& name, int type) {
    unique_fd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    const abstract_address a(name);
    REQUIRE(::bind(fd.get(), a.get(), a.size) == 0);
    return fd;
}

// In the new process. Never returns; the parent sees 126 when the daemon did not start.
[[noreturn]] void become_daemon(const program_options& o, int program, char** argv) {
    ::dup2(o.standard_error >= 0 ? o.standard_error : ::open("/dev/null", O_WRONLY | O_CLOEXEC),
           STDERR_FILENO);
    if (o.listening >= 0) {
        ::dup2(o.listening, 3);
        ::fcntl(3, F_SETFD, 0);
        ::setenv("LISTEN_FDS", "1", 1);
        ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    }
    for (const std::string& e : o.environment) ::putenv(const_cast<char*>(e.c_str()));
    const rlimit descriptors{o.descriptors, o.descriptors};
    const rlimit processes{o.processes, o.processes};
    bool good = o.descriptors == 0 || ::setrlimit(RLIMIT_NOFILE, &descriptors) == 0;
    good = good && (o.processes == 0 || ::setrlimit(RLIMIT_NPROC, &processes) == 0);
    good = good && (o.uid == 0 || (::setresgid(o.uid, o.uid, o.uid) == 0 &&
                                   ::setresuid(o.uid, o.uid, o.uid) == 0));
    // By descriptor: another user may not reach the build directory.
    if (good) ::execveat(program, "", argv, environ, AT_EMPTY_PATH);
    ::_exit(126);
}

}  // namespace

scratch_directory::scratch_directory() {
    path_ = variable_or("TMPDIR", "/tmp") + "/cleanfork-XXXXXX";
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
}

scratch_directory::~scratch_directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

std::string scratch_directory::operator/(std::string_view name) const {
    return path_ + "/" + std::string(name);
}

subreaper::subreaper() { REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0); }

subreaper::~subreaper() {
    reap();
    ::prctl(PR_SET_CHILD_SUBREAPER, 0);
}

int subreaper::reap() {
    int count = 0;
    while (::waitpid(-1, nullptr, WNOHANG) > 0) ++count;
    return count;
}

started start_daemon(const program_options& options) {
    const std::string path = daemon_path();
    const unique_fd program(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE_MESSAGE(bool(program), "no daemon at ", path);
    std::vector<std::string> words{path};
    words.insert(words.end(), options.args.begin(), options.args.end());
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (std::string& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    started s;
    s.pid = ::fork();
    if (s.pid == 0) become_daemon(options, program.get(), argv.data());
    REQUIRE(s.pid > 0);
    s.pidfd = ipc::pidfd_open(s.pid);
    REQUIRE(bool(s.pidfd));
    return s;
}

int reap(const started& s) {
    if (!ipc::pidfd_wait(s.pidfd.get(), ipc::pidfd_event::ended, k_patience_ms)) {
        ::kill(s.pid, SIGKILL);
        FAIL_CHECK("the daemon did not end");
    }
    int status = -1;
    ipc::retry([&] { return ::waitpid(s.pid, &status, 0); });
    return status;
}

ended run_daemon(program_options options) {
    const unique_fd text = text_file();
    options.standard_error = text.get();
    const int status = reap(start_daemon(options));
    return {status, contents(text)};
}

unique_fd connect_to(const std::string& path) {
    unique_fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const auto address = ipc::socket_address(path);
    REQUIRE(address.has_value());
    REQUIRE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) ==
            0);
    return fd;
}

std::vector<std::string> names_in(const std::string& directory) {
    std::vector<std::string> names;
    for (const auto& e : std::filesystem::directory_iterator(directory))
        names.push_back(e.path().filename());
    std::sort(names.begin(), names.end());
    return names;
}

unique_fd text_file() {
    unique_fd file(::memfd_create("text", MFD_CLOEXEC));
    REQUIRE(bool(file));
    return file;
}

std::string contents(const unique_fd& file) {
    std::string text;
    char part[4096];
    for (;;) {
        const ssize_t n = ::pread(file.get(), part, sizeof part, static_cast<off_t>(text.size()));
        if (n <= 0) return text;
        text.append(part, static_cast<std::size_t>(n));
    }
}

std::string daemon_path() {
    return variable_or("CLEANFORK_DAEMON", CLEANFORK_BIN_DIR "/cleanforkd");
}

std::string helper_path(std::string_view name) {
    return variable_or("CLEANFORK_TEST_HELPERS", CLEANFORK_TEST_HELPER_DIR) + "/" +
           std::string(name);
}

notify_socket::notify_socket() : name_(unique_name("notify")) {
    socket_ = bind_abstract(name_, SOCK_DGRAM);
}

std::string notify_socket::variable() const { return "NOTIFY_SOCKET=@" + name_; }

std::string notify_socket::receive(int other) const {
    pollfd fds[2] = {{socket_.get(), POLLIN, 0}, {other, POLLIN, 0}};
    ipc::retry([&] { return ::poll(fds, 2, k_patience_ms); });
    char text[256];
    const ssize_t n = ::recv(socket_.get(), text, sizeof text, MSG_DONTWAIT);
    const std::string all(text, n > 0 ? static_cast<std::size_t>(n) : 0);
    // Its first line says what; others are for people.
    return all.substr(0, all.find('\n'));
}

test_daemon::test_daemon(program_options options)
    : path_(directory_ / "socket"), log_(text_file()), uid_(options.uid) {
    if (uid_ == 0 && !options.activated) {
        options.args.insert(options.args.end(), {"--socket", path_});
    } else {
        path_ = unique_name("socket");
        listening_ = bind_abstract(path_, SOCK_SEQPACKET);
        REQUIRE(::listen(listening_.get(), 64) == 0);
        options.listening = listening_.get();
    }
    options.environment.push_back(notify_.variable());
    options.standard_error = log_.get();
    process_ = start_daemon(options);
    const std::string state = notify_.receive(process_.pidfd.get());
    REQUIRE_MESSAGE(state == "READY=1", "the daemon is not ready: ", log());
}

test_daemon::~test_daemon() {
    if (reaped_ || process_.pid <= 0) return;
    // The second signal kills the children at once.
    for (const int number : {SIGCONT, SIGTERM, SIGINT})
        ipc::pidfd_signal(process_.pidfd.get(), number);
    const int status = reap(process_);
    CHECK_MESSAGE(status == 0, log());
}

unique_fd test_daemon::connect_as(uid_t uid) const {
    if (!listening_) return connect_to(path_);
    unique_fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    // SO_PEERCRED is who we are at this moment.
    const abstract_address a(path_);
    REQUIRE(::seteuid(uid) == 0);
    const int connected = ::connect(fd.get(), a.get(), a.size);
    REQUIRE(::seteuid(0) == 0);
    REQUIRE(connected == 0);
    return fd;
}

void test_daemon::signal(int number) const {
    REQUIRE(ipc::pidfd_signal(process_.pidfd.get(), number) == 0);
}

void test_daemon::stop() const {
    signal(SIGSTOP);
    siginfo_t info{};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(process_.pid), &info, WSTOPPED) == 0);
}

int test_daemon::wait() {
    reaped_ = true;
    return reap(process_);
}

bool test_daemon::running() const {
    return !ipc::pidfd_wait(process_.pidfd.get(), ipc::pidfd_event::ended, 0);
}

std::string test_daemon::log() const { return contents(log_); }

}  // namespace cleanfork::testing
