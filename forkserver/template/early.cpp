// The running program, forked early, as a template; and a private forkserver for it.
//
// The forkserver must be the template's parent, to reap it and to inherit its
// children. So a process is forked that forks the template and then becomes the
// forkserver by exec: a parent keeps its children over that.
#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cleanfork/template.hpp>
#include <csignal>
#include <stdexcept>

#include "forkserver/template/fork_threads.hpp"
#include "forkserver/template/loop.hpp"
#include "forkserver/template/program.hpp"
#include "ipc/audit/audit.hpp"
#include "ipc/base/close_others.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/find_daemon.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork {

namespace {

using templates::program_host;

failure failed(int error, const char* what) { return ipc::fail(step::launch, error, what); }

result<void> prove_clean() {
    // Libraries that the program is linked with end theirs.
    try {
        templates::end_threads(program_host::instance());
    } catch (const std::runtime_error& e) {
        return ipc::fail(step::clean, 0, "start_early", e.what());
    }
    ipc::audit_options options;
    // Descriptors are the template's to close; the rest would be copied in part.
    options.descriptors = options.locks = options.signals = false;
    const auto report = ipc::audit(::getpid(), options);
    if (!report) return report.error();
    if (report->safe()) return {};
    return ipc::fail(
        step::clean, 0, "start_early",
        "it must be the first statement of main(), but there are " + ipc::summary(*report));
}

// Above the standard descriptors, whatever this program has closed.
constexpr int k_lowest_end = 10;

// The sockets and the pipe between this program and the two new processes.
struct ends {
    ipc::socket_pair client, control;
    unique_fd error_read, error_write;
};

result<ends> make_ends() {
    ends e;
    for (ipc::socket_pair* pair : {&e.client, &e.control}) {
        auto made = ipc::seqpacket_pair();
        if (!made) return made.error();
        *pair = std::move(*made);
    }
    // As the forkserver would do, before the template's first report.
    if (const int error = ipc::tell_senders(e.control.first.get()))
        return failed(error, "SO_PASSCRED");
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) return failed(errno, "pipe");
    e.error_read = unique_fd(fds[0]);
    e.error_write = unique_fd(fds[1]);
    for (unique_fd* fd : {&e.client.second, &e.control.first, &e.control.second, &e.error_write})
        *fd = ipc::move_up(std::move(*fd), k_lowest_end);
    return e;
}

void standard_descriptors(int log_fd) {
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    ::dup2(log_fd >= 0 ? log_fd : null, STDERR_FILENO);
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
    if (null > 2) ::close(null);
}

// The template: this program as it is now, without its descriptors.
[[noreturn]] void be_template(const ends& e, int log_fd) {
    standard_descriptors(log_fd);
    int control = e.control.second.get();
    ipc::close_others({&control, 1}, STDERR_FILENO + 1);
    program_host& host = program_host::instance();
    templates::initialize_and_serve(control, host, [&host] { host.initialize(); });
}

[[noreturn]] void report_and_end(const ends& e, int error) {
    [[maybe_unused]] const ssize_t n = ::write(e.error_write.get(), &error, sizeof error);
    ::_exit(127);
}

// Forks the template and becomes the forkserver.
[[noreturn]] void be_forkserver(const ends& e, const std::string& daemon,
                                const early_options& options) {
    ::setsid();  // Ctrl-C is for the program
    const pid_t made = ::fork();
    if (made == 0) be_template(e, options.log_fd);
    if (made < 0) report_and_end(e, errno);
    standard_descriptors(options.log_fd);
    ::fcntl(e.client.second.get(), F_SETFD, 0);
    ::fcntl(e.control.first.get(), F_SETFD, 0);
    std::vector<std::string> words{daemon,
                                   "--private-fd",
                                   std::to_string(e.client.second.get()),
                                   "--early-fd",
                                   std::to_string(e.control.first.get()),
                                   "--early-pid",
                                   std::to_string(made),
                                   "--early-name",
                                   options.name};
    words.insert(words.end(), options.daemon_args.begin(), options.daemon_args.end());
    std::vector<char*> argv;
    for (std::string& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    ::execv(daemon.c_str(), argv.data());
    const int error = errno;
    ::kill(made, SIGKILL);
    report_and_end(e, error);
}

// The exec has worked when the pipe ends without a word.
result<void> await_exec(ends& e, const std::string& daemon) {
    e.error_write.reset();
    int error = 0;
    const ssize_t n = ipc::retry([&] { return ::read(e.error_read.get(), &error, sizeof error); });
    if (n == 0) return {};
    return ipc::fail(step::launch, n == sizeof error ? error : EIO, daemon);
}

}  // namespace

result<unique_fd> try_start_early(const early_options& options) {
    if (auto clean = prove_clean(); !clean) return clean.error();
    auto daemon = ipc::find_daemon(options.daemon);
    if (!daemon) return daemon.error();
    auto made = make_ends();
    if (!made) return made.error();
    program_host::instance().flush();
    // A process in between, so that the forkserver is no child of this program,
    // whose SIGCHLD and wait(2) are its own.
    const pid_t first = ::fork();
    if (first == 0) {
        const pid_t second = ::fork();
        if (second == 0) be_forkserver(*made, *daemon, options);
        if (second < 0) report_and_end(*made, errno);
        ::_exit(0);
    }
    if (first < 0) return failed(errno, "fork");
    made->client.second.reset();
    made->control = {};
    ipc::retry([&] { return ::waitpid(first, nullptr, 0); });
    if (auto execed = await_exec(*made, *daemon); !execed) return execed.error();
    return std::move(made->client.first);
}

unique_fd start_early(const early_options& options) {
    auto socket = try_start_early(options);
    if (!socket) throw std::runtime_error(socket.error().message());
    return std::move(*socket);
}

}  // namespace cleanfork
