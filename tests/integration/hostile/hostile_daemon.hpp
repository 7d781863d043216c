// A real cleanforkd of a test's own: started, watched and ended by the test.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <cleanfork/unique_fd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tests/helpers/patience.hpp"

namespace cleanfork::testing {

using test::k_patience;
using test::k_patience_ms;

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool k_sanitized = true;
#else
inline constexpr bool k_sanitized = false;
#endif

// A directory of mode 0700, removed with all that is in it.
class scratch_directory {
public:
    scratch_directory();
    ~scratch_directory();
    scratch_directory(const scratch_directory&) = delete;
    scratch_directory& operator=(const scratch_directory&) = delete;

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] std::string operator/(std::string_view name) const;

private:
    std::string path_;
};

// Makes this process the parent of the orphans below it, and sees that they are reaped.
class subreaper {
public:
    subreaper();
    ~subreaper();
    subreaper(const subreaper&) = delete;
    subreaper& operator=(const subreaper&) = delete;

    // Reaps what has ended; the number of processes.
    static int reap();
};

// What a program run by a test is given besides its arguments.
struct program_options {
    std::vector<std::string> args{};
    std::vector<std::string> environment{};  // NAME=VALUE, added
    rlim_t descriptors = 0;                  // RLIMIT_NOFILE, soft and hard; 0: as ours
    rlim_t processes = 0;                    // RLIMIT_NPROC; 0: as ours
    uid_t uid = 0;                           // 0: as ours
    int listening = -1;                      // borrowed: becomes 3, with LISTEN_FDS
    int standard_error = -1;                 // borrowed; -1: /dev/null
    // The socket is one that the test has bound, in no directory: whoever knows its name
    // reaches it, whatever their uid. So it is for a daemon with a uid of its own.
    bool activated = false;
};

struct started {
    pid_t pid = -1;
    unique_fd pidfd;
};

// Starts cleanforkd as it is.
started start_daemon(const program_options& options);
// Waits for the end, reaps, and returns the status of wait(2).
int reap(const started& s);

// Runs cleanforkd to its end: for what makes it refuse to start.
struct ended {
    int status;        // of wait(2)
    std::string text;  // standard error
};
ended run_daemon(program_options options);

// A connection to the socket at `path`.
unique_fd connect_to(const std::string& path);
// What is in a directory, in order.
std::vector<std::string> names_in(const std::string& directory);

// A memfd, and what was written to it.
unique_fd text_file();
std::string contents(const unique_fd& file);

// $CLEANFORK_DAEMON, else the one built beside this test.
std::string daemon_path();
// A helper program of tests/helpers.
std::string helper_path(std::string_view name);

// A datagram socket for NOTIFY_SOCKET.
class notify_socket {
public:
    notify_socket();
    // For the environment of the one who notifies.
    [[nodiscard]] std::string variable() const;
    // The next message; empty when `other` (a pidfd) became readable first, or after k_patience.
    [[nodiscard]] std::string receive(int other) const;

private:
    unique_fd socket_;
    std::string name_;
};

// A daemon that listens and has said READY=1. If it still runs at the end it is ended with its
// children, and must say that it ended well.
class test_daemon {
public:
    explicit test_daemon(program_options options = {});
    ~test_daemon();
    test_daemon(const test_daemon&) = delete;
    test_daemon& operator=(const test_daemon&) = delete;

    [[nodiscard]] const std::string& socket() const noexcept { return path_; }
    [[nodiscard]] const scratch_directory& directory() const noexcept { return directory_; }
    [[nodiscard]] pid_t pid() const noexcept { return process_.pid; }
    [[nodiscard]] int pidfd() const noexcept { return process_.pidfd.get(); }
    [[nodiscard]] const notify_socket& notifications() const noexcept { return notify_; }

    // A connection, of the user the daemon runs as or another; nothing was said on it yet.
    [[nodiscard]] unique_fd connect() const { return connect_as(uid_); }
    [[nodiscard]] unique_fd connect_as(uid_t uid) const;

    void signal(int number) const;
    // SIGSTOP, and back when it has stopped: what is sent now is read in one turn.
    void stop() const;
    // Waits for its end; the status of wait(2).
    int wait();
    [[nodiscard]] bool running() const;
    // What it has logged so far.
    [[nodiscard]] std::string log() const;

private:
    scratch_directory directory_;
    std::string path_;
    notify_socket notify_;
    unique_fd listening_;  // of an activated daemon
    unique_fd log_;
    uid_t uid_ = 0;
    started process_;
    bool reaped_ = false;
};

}  // namespace cleanfork::testing
