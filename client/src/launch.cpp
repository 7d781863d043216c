// Starting a private forkserver.
//
// cleanforkd --private-fd forks once at its start and lets the first process
// end, which is reaped here by its number: so the caller never has a child that
// a waitpid(-1) of its own could meet later, and the forkserver learns of the
// caller's end by the end of the connection.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cleanfork/client.hpp>
#include <csignal>

#include "client/src/requests/handshake.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/find_daemon.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork {

using namespace detail;

namespace {

constexpr int k_private_fd = 3;

// posix_spawn's two objects, destroyed on every way out.
class spawn_setup {
public:
    spawn_setup() {
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawnattr_init(&attributes);
    }
    spawn_setup(const spawn_setup&) = delete;
    spawn_setup& operator=(const spawn_setup&) = delete;
    ~spawn_setup() {
        ::posix_spawn_file_actions_destroy(&actions);
        ::posix_spawnattr_destroy(&attributes);
    }

    // The forkserver has this socket as 3 and nothing else of ours. The log
    // comes first: it may be a number that is replaced afterwards.
    void descriptors(int socket, int log_fd) {
        if (log_fd >= 0)
            ::posix_spawn_file_actions_adddup2(&actions, log_fd, 2);
        else
            ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
        ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        ::posix_spawn_file_actions_adddup2(&actions, socket, k_private_fd);
        ::posix_spawn_file_actions_addclosefrom_np(&actions, k_private_fd + 1);
    }

    // Signals as new, and a session or process group of its own: Ctrl-C is for the caller.
    void fresh_state(bool share_session) {
        sigset_t every, none;
        sigfillset(&every);
        sigemptyset(&none);
        ::posix_spawnattr_setsigdefault(&attributes, &every);
        ::posix_spawnattr_setsigmask(&attributes, &none);
        const int own = share_session ? POSIX_SPAWN_SETPGROUP : POSIX_SPAWN_SETSID;
        ::posix_spawnattr_setflags(
            &attributes, static_cast<short>(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | own));
    }

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
};

struct launched {
    unique_fd socket;
    pid_t first = 0;  // the process that ends at once
    std::string daemon;
};

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

    spawn_setup setup;
    setup.descriptors(theirs.get(), options.log_fd);
    setup.fresh_state(options.share_session);
    launched l{std::move(pair->first), 0, *daemon};
    const int error = ::posix_spawn(&l.first, daemon->c_str(), &setup.actions, &setup.attributes,
                                    argv.data(), environ);
    if (error != 0) return ipc::fail(step::launch, error, *daemon);
    return l;
}

// After the greeting, or its failure: the first process has ended, or must; its status.
// A waitpid(-1) elsewhere in the program may have been faster: ECHILD is fine.
std::optional<int> reap(const launched& l) {
    int status = 0;
    if (ipc::retry([&] { return ::waitpid(l.first, &status, 0); }) != l.first) return std::nullopt;
    return status;
}

// The first process may be the one that hangs; a moment is given to one that is just ending.
void end(const launched& l) {
    const ipc::process_ref first(l.first, ipc::pidfd_open(l.first));
    if (first && !ipc::pidfd_wait(first.pidfd(), ipc::pidfd_event::ended, 100))
        first.signal(SIGKILL);
}

// The greeting failed: what the first process ended with says more.
failure explain(const launched& l, failure f) {
    end(l);
    const std::optional<int> status = reap(l);
    f.step = step::launch;
    f.object = l.daemon;
    if (f.error_number != ECONNRESET) return f;
    f.detail = "it ended before it answered";
    if (status && *status != 0)
        f.detail += " (" + exit_status::from_wait_status(*status).to_string() + ")";
    f.detail += ": set launch_options::log_fd to see why";
    return f;
}

}  // namespace

client launch(const launch_options& options) { return launch({}, options); }

client launch(boost::asio::any_io_executor executor, const launch_options& options) {
    const deadline d = deadline_after(options.timeout);
    auto l = start_daemon(options);
    if (!l) throw spawn_error(l.error());
    auto c = greet(std::move(l->socket), std::move(executor), d);
    if (!c) throw spawn_error(explain(*l, c.error()));
    reap(*l);
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
    start_greeting(std::move(socket), executor, d, [done, first](result<client>&& r) {
        if (!r) return std::move(*done)(exception_of(explain(*first, r.error())), client());
        reap(*first);
        std::move (*done)(std::exception_ptr(), std::move(*r));
    });
}

}  // namespace detail
}  // namespace cleanfork
