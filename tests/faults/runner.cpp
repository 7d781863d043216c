#include "tests/faults/runner.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "ipc/base/fd.hpp"
#include "ipc/base/process_ref.hpp"
#include "tests/faults/calls.hpp"

namespace cleanfork::faults {

namespace {

using namespace std::chrono_literals;
constexpr auto k_patience = 20s;

story& shared_story() {
    static auto* const s = static_cast<story*>(
        ::mmap(nullptr, sizeof(story), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    return *s;
}

std::string text_of(int fd) {
    std::string text(10'000, '\0');
    const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
    text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return text;
}

fault nothing() { return {{role::program, -1, 0}, 0}; }

}  // namespace

// The allocations of the forkserver count as its calls do, in a library of its own.
runner::runner() : world_(watch_) {
    watch_.on_count = [this](bool begins) {
        if (begins)
            count_allocations();
        else
            note_allocations();
    };
    watch_.on_awaited = [this] { count_allocations(); };
}

void runner::count_allocations() {
    test::fault& f = world_.allocations();
    const bool fails = fault_ && fault_->at.call == k_allocation;
    f.calls = 0;
    f.size = 0;
    f.error_number = ENOMEM;
    f.skipped = fails ? fault_->at.k - 1 : 0;
    f.left = fails ? 1 : 0;
}

void runner::note_allocations() {
    test::fault& f = world_.allocations();
    allocations_ = f.calls;
    allocation_failed_ = fault_ && fault_->at.call == k_allocation && f.left == 0;
    f.left = 0;
}

std::string runner::prepare() {
    if (is_usable_) return {};
    watch_.arm(std::nullopt, false);
    std::string wrong = world_.begin();
    is_usable_ = wrong.empty();
    return wrong;
}

std::vector<watch::seen> runner::record(const path& p) {
    const run_report r = run(p, std::nullopt);
    if (!r.finding.empty())
        std::printf("%s: wrong without a fault: %s\n%s", std::string(p.name).c_str(),
                    r.finding.c_str(), world_.log().c_str());
    for (int k = 1; k <= allocations_; ++k)
        record_.push_back({{role::daemon, k_allocation, k}, {}, ""});
    return record_;
}

run_report runner::run(const path& p, const std::optional<fault>& f) {
    fault_.reset();
    if (std::string wrong = prepare(); !wrong.empty()) return {false, {}, wrong};
    fault_ = f;
    run_report r = p.starts_daemon ? run_start(f) : run_client(p, f);
    fault_.reset();
    r.injected |= allocation_failed_;
    return r;
}

// What stays once is kept for later, a buffer or a table that has grown; what stays each time is
// lost.
std::string runner::lost_memory(const path& p, const fault& f) {
    constexpr int k_times = 6;
    const auto has_ended = [&] { return !is_usable_ || world_.daemon_pid() != measured_; };
    if (!is_usable_ || p.starts_daemon || p.ends_daemon) return {};
    if (has_ended()) {
        measured_ = world_.daemon_pid();
        run(p, std::nullopt);
        most_held_ = world_.held();
    }
    const long first = world_.held();
    long last = first;
    if (first <= most_held_) return {};
    for (int n = 0; n < k_times; ++n) {
        run(p, f);
        if (has_ended()) return {};
        most_held_ = std::max(most_held_, last);
        if (world_.held() <= last) return {};
        last = world_.held();
    }
    return "allocations of the forkserver that stay, of " + std::to_string(k_times) +
           " times: " + std::to_string(last - first);
}

// ---- the start of a forkserver

run_report runner::run_start(const std::optional<fault>& f) {
    run_report r;
    if (r.finding = world_.end_daemon(); !r.finding.empty()) return r;
    world_.kill_all();
    // What is allocated before main() is the C++ library's and protobuf's.
    watch_.awaited_call = SYS_rt_sigaction;
    watch_.arm(f, true);
    world_.allocations().left = 0;
    const auto ended = world_.start_daemon();
    watch_.disarm();
    watch_.awaited_call = -1;
    record_ = watch_.record();
    r.injected = watch_.injected();
    r.outcome = ended ? ipc::ended_how(*ended) + ": " + world_.log() : "it serves";
    if (!ended) {
        r.finding = world_.await_baseline(true);
        if (r.finding.empty()) r.finding = world_.end_daemon();
    } else if (f && f->error_number != 0) {
        if (*ended == 0)
            r.finding = "a failed start ends with 0";
        else if (WIFSIGNALED(*ended))
            r.finding = "a failed start: it " + ipc::ended_how(*ended);
        else if (world_.log().find(::strerrorname_np(f->error_number)) == std::string::npos)
            r.finding = "the start does not say why it fails: " + world_.log();
        if (r.finding.empty())
            for (const std::string& file : world_.files())
                if (file != "socket.lock") r.finding = "left on disk: " + file;
    }
    // Killed, it leaves its socket, which the next one finds.
    is_usable_ = false;
    if (!r.finding.empty()) return r;
    // In the same directory, whatever was left there.
    world_.kill_all();
    watch_.arm(std::nullopt, false);
    if (const auto again = world_.start_daemon())
        r.finding = "the next start: " + ipc::ended_how(*again) + ": " + world_.log();
    else
        r.finding = world_.await_baseline(true);
    if (r.finding.empty()) r.finding = strange_files();
    is_usable_ = r.finding.empty();
    return r;
}

// ---- a client of one that serves

pid_t runner::begin_client(const path& p, story& s) {
    return world_.fork_watched(role::client, [&] {
        teller t(s);
        s.descriptors_before = static_cast<int>(ipc::open_descriptor_count());
        try {
            p.client(world_.places(), t);
            tell(told::count_to_here);
        } catch (const std::exception& e) {
            t.wrong(std::string("before it: ") + e.what());
        }
        s.descriptors_after = static_cast<int>(ipc::open_descriptor_count());
        s.is_over = true;
    });
}

pid_t runner::begin_command(const path& p, int out, int err) {
    return world_.fork_watched(role::command, [&] {
        const surroundings& at = world_.places();
        std::vector<std::string> words{at.bin + "/cleanfork"};
        for (std::string w : p.command) {
            if (w.starts_with("@helpers")) w = at.helpers + w.substr(8);
            words.push_back(w);
        }
        std::vector<char*> argv;
        for (std::string& w : words) argv.push_back(w.data());
        argv.push_back(nullptr);
        ::setenv("CLEANFORK_SOCKET", at.socket.c_str(), 1);
        ::dup2(::open("/dev/null", O_RDONLY), 0);
        ::dup2(out, 1);
        ::dup2(err, 2);
        ::execv(argv[0], argv.data());
        ::_exit(98);
    });
}

run_report runner::run_client(const path& p, const std::optional<fault>& f) {
    run_report r;
    story& s = shared_story();
    s = {};
    const unique_fd out(::memfd_create("out", MFD_CLOEXEC));
    const unique_fd err(::memfd_create("err", MFD_CLOEXEC));
    const bool is_command = !p.command.empty();
    watch_.arm(f, is_command);
    const pid_t pid = is_command ? begin_command(p, out.get(), err.get()) : begin_client(p, s);
    int status = 0;
    {
        const unique_fd pidfd = ipc::pidfd_open(pid);
        const bool ended = watch_.serve(-1, watch::clock::now() + k_patience, [&] {
            world_.reap(pid);
            return ipc::pidfd_wait(pidfd.get(), ipc::pidfd_event::ended, 0);
        });
        if (!ended) {
            r.finding = "it hangs: " + watch_.where_all_are();
            ::kill(pid, SIGKILL);
            watch_.serve(pidfd.get(), watch::clock::now() + k_patience);
        }
    }
    ::waitpid(pid, &status, 0);
    world_.await_quiet();
    watch_.disarm();
    record_ = watch_.record();
    watch_.tidy();
    r.injected = watch_.injected();
    const evidence e{f.value_or(nothing()), world_.take_ran()};
    const command_result c{status, text_of(out.get()), text_of(err.get())};
    r.outcome = is_command ? in_short(p, c) : in_short(s);
    if (r.finding.empty()) r.finding = is_command ? judge_command(p, c, e) : judge(s, e);
    const bool killed = f && f->error_number == 0 && f->at.who == role::client;
    if (r.finding.empty() && !is_command && status != 0 && !killed)
        r.finding = "the client " + ipc::ended_how(status);
    const std::string after = look_after(p, f);
    if (!after.empty()) r.finding += (r.finding.empty() ? "" : "; ") + after;
    if (!r.finding.empty()) is_usable_ = false;
    return r;
}

std::string runner::look_after(const path& p, const std::optional<fault>& f) {
    if (p.ends_daemon)
        watch_.serve(-1, watch::clock::now() + 3s, [&] { return !world_.daemon_lives(); });
    if (!world_.daemon_lives()) return look_after_death(p, f);
    const std::string wrong = world_.await_baseline(false);
    if (!wrong.empty()) return wrong;
    return strange_files();
}

// But for what a client has asked for.
std::string runner::strange_files() {
    ::unlink((world_.places().directory + "/log").c_str());
    for (const std::string& file : world_.files())
        if (file != "socket" && file != "socket.lock") return "left on disk: " + file;
    return {};
}

std::string runner::look_after_death(const path& p, const std::optional<fault>& f) {
    const int status = *world_.daemon_status();
    const bool was_killed = f && f->at.who == role::daemon && f->error_number == 0;
    is_usable_ = false;
    if (!was_killed && !p.ends_daemon)
        return "the forkserver has ended: it " + ipc::ended_how(status);
    if (!was_killed && status != 0) return "the forkserver " + ipc::ended_how(status);
    // The name of a socket that the kernel does not remove is the next forkserver's.
    const bool may_stay = f && (f->at.call == SYS_unlinkat || f->at.call == SYS_newfstatat);
    if (!was_killed && !may_stay)
        for (const std::string& file : world_.files())
            if (file != "socket.lock") return "left on disk: " + file;
    world_.kill_all();
    if (const auto again = world_.start_daemon())
        return "the next start: " + ipc::ended_how(*again) + ": " + world_.log();
    std::string wrong = world_.await_baseline(true);
    if (wrong.empty()) wrong = strange_files();
    is_usable_ = wrong.empty();
    return wrong;
}

}  // namespace cleanfork::faults
