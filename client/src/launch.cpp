// Starting a private forkserver.
//
// It is a descendant of the caller, below a reaper (reaper.hpp), or of init: then
// cleanforkd --private-fd forks once at its start and lets the first process
// end, which is reaped here by its number. Either way the caller never has a child that
// a waitpid(-1) of its own could meet later, and the forkserver learns of the
// caller's end by the end of the connection.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cleanfork/client.hpp>
#include <csignal>
#include <cstring>

#include "client/src/reaper.hpp"
#include "client/src/requests/handshake.hpp"
#include "ipc/base/close_others.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/find_daemon.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork {

using namespace detail;

namespace {

constexpr int k_private_fd = 3;

// What the process that becomes the forkserver does before its exec. It shares the memory of its
// parent, the caller or the reaper, which sleeps meanwhile: nothing here allocates.
struct start {
    const char* daemon;
    char* const* argv;
    char* const* envp;
    int socket;
    int log_fd;
    bool share_session;
    reaper_page* told = nullptr;  // where to say what could not be done, with its errno
};

bool put_null(int as, int how) noexcept {
    const int fd = ::open("/dev/null", how);
    if (fd < 0 || fd == as) return fd == as;
    const bool done = ::dup2(fd, as) == as;
    ::close(fd);
    return done;
}

// Signals as new, and a session or process group of its own: Ctrl-C is for the caller. The
// forkserver has the socket as 3 and nothing else of ours. The log comes first: it may be a
// number that is replaced afterwards.
const char* prepare(const start& s) noexcept {
    struct sigaction usual {};
    usual.sa_handler = SIG_DFL;
    for (int number = 1; number <= SIGRTMAX; ++number) ::sigaction(number, &usual, nullptr);
    if ((s.share_session ? ::setpgid(0, 0) : ::setsid()) < 0) return "session";
    if (s.log_fd >= 0 ? ::dup2(s.log_fd, 2) < 0 : !put_null(2, O_WRONLY))
        return s.log_fd >= 0 ? "log_fd" : "/dev/null";
    if (!put_null(0, O_RDONLY) || !put_null(1, O_WRONLY)) return "/dev/null";
    if (::dup2(s.socket, k_private_fd) < 0) return "socketpair";
    ipc::close_others({}, k_private_fd + 1);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    return nullptr;
}

// Not for ASan: it would look for the stack of the thread, and this is none.
[[gnu::no_sanitize_address]] int become_daemon(void* what) noexcept {
    start& s = *static_cast<start*>(what);
    const char* failed = prepare(s);
    if (failed == nullptr) {
        ::execve(s.daemon, s.argv, s.envp);
        failed = s.daemon;
    }
    s.told->error_number = errno;
    s.told->failed = failed;
    ::_exit(127);
}

// A child of init soon: the forkserver's first process ends at once.
pid_t run_apart(start& s, reaper_page& told) {
    s.told = &told;
    pid_t pid = start_sharing_memory(&become_daemon, &s, SIGCHLD);
    if (pid < 0) told.error_number = errno;
    if (pid > 0 && told.failed != nullptr) {
        ipc::retry([&] { return ::waitpid(pid, nullptr, 0); });
        pid = -1;
    }
    return pid;
}

// The reaper begins as a copy of the program, and copying the description of its memory takes
// time (about 20 us for each MiB in pages of 4 KiB), as does each page that is written afterwards.
constexpr std::uint64_t k_most_copied = 256 << 20;

bool wants_reaper(const launch_options& options) {
    if (options.descendant.value_or(false) || inherits_orphans()) return true;
    return !options.descendant && private_memory().value_or(k_most_copied + 1) <= k_most_copied;
}

// The environment without what no exec takes (MAX_ARG_STRLEN): children have it from the
// session's base, not from the forkserver.
std::vector<char*> environment_for_exec() {
    std::vector<char*> entries;
    for (char** e = environ; e != nullptr && *e != nullptr; ++e)
        if (std::strlen(*e) < ipc::k_max_string) entries.push_back(*e);
    entries.push_back(nullptr);
    return entries;
}

struct launched {
    unique_fd socket;
    std::string daemon;
    std::shared_ptr<reaper> parent;  // of the forkserver; or null, and:
    pid_t first = 0;                 // the process that ends at once
};

// After the greeting, or its failure: the first process has ended, or must; its status.
// A waitpid(-1) elsewhere in the program may have been faster: ECHILD is fine.
std::optional<int> reap(const launched& l) {
    int status = 0;
    if (ipc::retry([&] { return ::waitpid(l.first, &status, 0); }) != l.first) return std::nullopt;
    return status;
}

constexpr std::chrono::milliseconds k_last_moment(100);

// A moment is given to one that is just ending. Its status, when that is known.
std::optional<int> end(const launched& l) {
    if (l.parent) {
        const std::optional<int> status = l.parent->end_forkserver(k_last_moment);
        l.parent->end();
        return status;
    }
    // The first process may be the one that hangs.
    const ipc::process_ref first(l.first, ipc::pidfd_open(l.first));
    if (first && !ipc::pidfd_wait(first.pidfd(), ipc::pidfd_event::ended, k_last_moment.count()))
        first.signal(SIGKILL);
    return reap(l);
}

// Below a reaper; falls back to none where nobody has asked for one in so many words.
result<void> run(launched& l, start& s, std::vector<char*>& argv, const launch_options& options) {
    reaper_page told{};
    if (wants_reaper(options)) {
        char stay[] = "--stay";
        argv.insert(argv.begin() + 1, stay);
        s.argv = argv.data();
        l.parent = reaper::start(&become_daemon, &s, &s.told);
        const int error = l.parent ? l.parent->page().error_number : errno;
        const bool begun = l.parent && l.parent->page().forkserver > 0;
        if (begun && l.parent->page().failed == nullptr) return {};
        const std::string failed = begun ? l.parent->page().failed : "clone";
        if (l.parent) (void)end(l);
        l.parent = nullptr;
        if (begun || options.descendant.value_or(false))
            return ipc::fail(step::launch, error, failed);
        argv.erase(argv.begin() + 1);
        s.argv = argv.data();
    }
    l.first = run_apart(s, told);
    if (l.first > 0) return {};
    return ipc::fail(step::launch, told.error_number,
                     told.failed != nullptr ? told.failed : "clone");
}

result<launched> start_daemon(const launch_options& options) {
    auto daemon = ipc::find_daemon(options.daemon);
    if (!daemon) return daemon.error();
    auto pair = ipc::seqpacket_pair();
    if (!pair) return ipc::fail(step::launch, pair.error().error_number, "socketpair");
    // Above the numbers that are replaced in the forkserver.
    const unique_fd theirs = ipc::move_up(std::move(pair->second), k_private_fd + 1);
    if (theirs.get() < k_private_fd)
        return ipc::fail(step::launch, EMFILE, "socketpair", "this program is out of descriptors");

    std::vector<std::string> words{*daemon, "--private-fd", std::to_string(k_private_fd)};
    words.insert(words.end(), options.daemon_args.begin(), options.daemon_args.end());
    std::vector<char*> argv;
    for (std::string& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);

    const std::vector<char*> environment = environment_for_exec();
    start s{daemon->c_str(), argv.data(),    environment.data(),
            theirs.get(),    options.log_fd, options.share_session};
    launched l{std::move(pair->first), *daemon, nullptr, 0};
    if (auto begun = run(l, s, argv, options); !begun) return begun.error();
    return l;
}

// The greeting failed: what it ended with says more.
failure explain(const launched& l, failure f) {
    const std::optional<int> status = end(l);
    if (f.step == step::launch) return f;  // it has told why it cannot serve
    f.step = step::launch;
    f.object = l.daemon;
    if (f.error_number != ECONNRESET) return f;
    f.detail = "it ended before it answered";
    if (status && *status != 0)
        f.detail += " (" + exit_status::from_wait_status(*status).to_string() + ")";
    f.detail += ": set launch_options::log_fd to see why";
    return f;
}

// The forkserver has answered: what its end will need.
void hand_over(const launched& l, const client& c) {
    if (l.parent)
        connection::of(c)->at_close([parent = l.parent] { parent->end(); });
    else
        reap(l);
}

}  // namespace

client launch(const launch_options& options) { return launch({}, options); }

client launch(boost::asio::any_io_executor executor, const launch_options& options) {
    const deadline d = deadline_after(options.timeout);
    auto l = start_daemon(options);
    if (!l) throw spawn_error(l.error());
    auto c = greet(std::move(l->socket), std::move(executor), d, rights_of(options.lends_rights));
    if (!c) throw spawn_error(explain(*l, c.error()));
    hand_over(*l, *c);
    return std::move(*c);
}

namespace detail {

void start_launch(any_io_executor executor, const launch_options& options, client_handler handler) {
    const deadline d = deadline_after(options.timeout);
    auto done = std::make_shared<completion<client_handler>>(executor, std::move(handler));
    auto l = start_daemon(options);
    if (!l) return std::move(*done)(exception_of(l.error()), client());
    unique_fd socket = std::move(l->socket);
    auto first = std::make_shared<launched>(std::move(*l));
    const auto on_greeting = [done, first](result<client>&& r) {
        if (!r) return std::move(*done)(exception_of(explain(*first, r.error())), client());
        hand_over(*first, *r);
        std::move (*done)(std::exception_ptr(), std::move(*r));
    };
    start_greeting(std::move(socket), executor, d, on_greeting, rights_of(options.lends_rights));
}

}  // namespace detail
}  // namespace cleanfork
