#include "forkserver/template/loop.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <unordered_map>
#include <utility>

#include "forkserver/spawn/call_block.hpp"
#include "forkserver/template/channel.hpp"
#include "forkserver/template/fork_threads.hpp"
#include "forkserver/template/forked_child.hpp"
#include "forkserver/template/kept_files.hpp"
#include "forkserver/template/notes.hpp"
#include "forkserver/template/order.hpp"
#include "ipc/audit/threads.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::templates {

namespace {

class loop {
public:
    loop(int control, host& h) : host_(h), control_(control) {}

    // False with errno when the loop's own descriptors cannot be had.
    bool open();
    void note_files();
    [[nodiscard]] std::vector<int> own_descriptors() const {
        return {control_, signals_.get(), null_.get()};
    }
    [[noreturn]] void run();

private:
    bool take_order();
    void fork_child(const order& o, unique_fd channel);
    void fork_if_clean(const child_start& start);
    void kill_child(std::uint64_t sequence);
    void reap();

    host& host_;
    const int control_;
    unique_fd signals_;
    unique_fd null_;
    rlimit descriptor_limit_{};  // as it was, and children have it
    rlim_t raised_limit_ = 0;
    std::span<char> room_;  // for two requests of a child, which alone writes there
    ipc::receiver receiver_;
    notes notes_;
    kept_files files_;
    std::unordered_map<pid_t, std::uint64_t> children_;
};

// Before the loop has descriptors of its own.
void loop::note_files() {
    const std::vector<int> closed = host_.closed_descriptors();
    files_.note({&control_, 1}, closed);
}

// The loop's own thread blocks SIGCHLD and reads it from a descriptor. A thread that a
// template has although it should not, does not block it, and would make it vanish.
pid_t loop_thread = 0;

void pass_on(int number) {
    const int saved = errno;
    ::syscall(SYS_tgkill, ::getpid(), loop_thread, number);
    errno = saved;
}

bool loop::open() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    // Blocked first: on this thread the handler would send to itself without end.
    if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return false;
    loop_thread = static_cast<pid_t>(::syscall(SYS_gettid));
    // A template that ignored the signal would have no children to tell of.
    struct sigaction passed_on {};
    passed_on.sa_handler = &pass_on;
    passed_on.sa_flags = SA_RESTART;
    if (::sigaction(SIGCHLD, &passed_on, nullptr) != 0) return false;
    signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    null_.reset(::open("/dev/null", O_RDWR | O_CLOEXEC));
    const rlim_t soft = ipc::raise_descriptor_limit();
    ::getrlimit(RLIMIT_NOFILE, &descriptor_limit_);
    raised_limit_ = std::exchange(descriptor_limit_.rlim_cur, soft);
    constexpr std::size_t k_room = 2 * ipc::k_max_inline_body;
    void* const at =
        ::mmap(nullptr, k_room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return false;
    room_ = {static_cast<char*>(at), k_room};
    return bool(signals_) && bool(null_);
}

void loop::run() {
    for (;;) {
        pollfd p[] = {{control_, POLLIN, 0}, {signals_.get(), POLLIN, 0}};
        ipc::retry([&] { return ::poll(p, 2, -1); });
        if (p[1].revents != 0) reap();
        // The forkserver has gone, or needs this template no more.
        if (p[0].revents != 0 && !take_order()) ::_exit(0);
    }
}

bool loop::take_order() {
    ipc::received packet = receiver_.receive(control_);
    if (packet.status == ipc::receive_status::would_block) return true;
    // The order waits in the socket.
    if (packet.status == ipc::receive_status::failed && packet.error_number == ENOMEM) return true;
    if (packet.status != ipc::receive_status::packet || packet.body.size() != sizeof(order))
        return false;
    order o{};
    std::memcpy(&o, packet.body.data(), sizeof o);
    if (o.kind == order_kind::kill) {
        kill_child(o.sequence);
        return true;
    }
    const bool forks = o.kind == order_kind::fork || o.kind == order_kind::judged_fork;
    if (!forks || packet.descriptors.size() != 1) return false;
    fork_child(o, std::move(packet.descriptors.front()));
    return true;
}

// libc's fork, not a bare clone: atfork handlers run, and libc's idea of the
// thread's id is right in the child.
void loop::fork_child(const order& o, unique_fd channel) {
    host_.before_fork();
    child_start start;
    start.sequence = o.sequence;
    start.warm = o.warm != 0;
    start.channel = channel.get();
    start.control = control_;
    start.null_fd = null_.get();
    start.files = &files_;
    start.room = room_;
    start.descriptor_limit = descriptor_limit_;
    start.raised_limit = raised_limit_;
    start.parent = ::getpid();
    start.changed_signals = o.changed_signals;
    if (o.kind == order_kind::judged_fork) return fork_if_clean(start);
    const pid_t pid = ::fork();
    if (pid == 0) run_child(start, host_, notes_);
    const int error = errno;
    if (pid > 0) children_.emplace(pid, o.sequence);
    host_.after_fork();
    if (pid < 0) report_child_failed(control_, o.sequence, ipc::fail(step::fork, error));
}

void loop::fork_if_clean(const child_start& start) {
    judged_fork judged;
    const pid_t pid = judged.fork();
    if (pid == 0) {
        if (!judged.clean()) ::_exit(0);
        run_child(start, host_, notes_);
    }
    const int error = errno;
    if (pid > 0 && judged.clean()) children_.emplace(pid, start.sequence);
    if (pid > 0 && !judged.clean()) ::kill(pid, SIGKILL);  // and is reaped as unknown
    host_.after_fork();
    if (pid < 0)
        report_child_failed(control_, start.sequence, ipc::fail(step::fork, error));
    else if (!judged.clean())
        report_child_failed(control_, start.sequence,
                            ipc::fail(step::clean, 0, "template", judged.what()));
}

// The children of this template are not reaped but here: the pid is no one else's.
void loop::kill_child(std::uint64_t sequence) {
    for (const auto& [pid, s] : children_)
        if (s == sequence) ::kill(pid, SIGKILL);
}

// Told before it is reaped: were this template killed in between, the forkserver,
// which inherits the child, would still find its status.
void loop::reap() {
    signalfd_siginfo ignored[16];
    (void)::read(signals_.get(), ignored, sizeof ignored);
    for (;;) {
        siginfo_t info{};
        rusage usage{};
        const long found = ipc::retry([&] {
            return ::syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT, &usage);
        });
        if (found != 0 || info.si_pid == 0) return;
        if (const auto at = children_.find(info.si_pid); at != children_.end()) {
            const notes::note left = notes_.take(at->second);
            const child_end end{{.kind = left.is_unused ? report_kind::unused : report_kind::ended,
                                 .sequence = at->second,
                                 .pid = info.si_pid,
                                 .wait_status = ipc::wait_status_of(info)},
                                usage};
            children_.erase(at);
            if (!report_ended(control_, end, left.text)) ::_exit(0);
        }
        ::waitid(P_PID, static_cast<id_t>(info.si_pid), &info, WEXITED | WNOHANG);
    }
}

}  // namespace

void initialize_and_serve(int control, host& h, const std::function<void()>& initialize) {
    const std::uint64_t before = ipc::monotonic_ns();
    bool ends_threads = false;
    try {
        initialize();
        ends_threads = end_threads(h);
        if (ipc::hazardous_threads() == 0U) h.rehearse();
    } catch (...) {
        const std::string text = text_of_current_exception();
        h.flush();
        report_failed(control, ipc::fail(step::template_start, 0, "initialization", text));
        ::_exit(1);
    }
    loop l(control, h);
    l.note_files();
    if (!l.open()) {
        report_failed(control, ipc::fail(step::template_start, errno, "loop"));
        ::_exit(1);
    }
    v1::TemplateMessage m;
    for (const std::string& e : h.entries()) m.mutable_ready()->add_entries(e);
    m.mutable_ready()->set_initialization_ns(ipc::monotonic_ns() - before);
    for (const int fd : l.own_descriptors()) m.mutable_ready()->add_own_descriptors(fd);
    m.mutable_ready()->set_ends_threads(ends_threads);
    m.mutable_ready()->set_protocol(spawn::k_template_protocol);
    if (!report(control, m)) ::_exit(0);
    l.run();
}

}  // namespace cleanfork::templates
