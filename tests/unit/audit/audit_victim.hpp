// Processes for the tests of the audit to look at.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <future>
#include <utility>
#include <vector>

#include "ipc/audit/audit.hpp"
#include "ipc/base/fd.hpp"

namespace cleanfork::test {

// A child of one thread that does as it is told: `act` once, when change() is called.
class victim {
public:
    explicit victim(const std::function<void()>& act) {
        int down[2], up[2];
        REQUIRE(::pipe2(down, O_CLOEXEC) == 0);
        REQUIRE(::pipe2(up, O_CLOEXEC) == 0);
        pid_ = ::fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            ::close(down[1]);
            ::close(up[0]);
            char byte = 0;
            if (::write(up[1], &byte, 1) != 1) ::_exit(1);
            if (::read(down[0], &byte, 1) == 1) act();
            if (::write(up[1], &byte, 1) != 1) ::_exit(1);
            for (;;) ::pause();
        }
        ::close(down[0]);
        ::close(up[1]);
        command_ = unique_fd(down[1]);
        answer_ = unique_fd(up[0]);
        await_answer();
    }
    ~victim() {
        ::kill(pid_, SIGKILL);
        reap();
    }
    victim(const victim&) = delete;
    victim& operator=(const victim&) = delete;

    void change() const {
        tell();
        await_answer();
    }
    // For an act that does not return.
    void tell() const { REQUIRE(::write(command_.get(), "x", 1) == 1); }
    // Leaves a zombie.
    void end() const {
        ::kill(pid_, SIGKILL);
        siginfo_t info{};
        REQUIRE(::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) == 0);
    }
    void reap() {
        if (!std::exchange(reaped_, true)) ::waitpid(pid_, nullptr, 0);
    }
    [[nodiscard]] pid_t pid() const noexcept { return pid_; }

private:
    void await_answer() const {
        char byte = 0;
        REQUIRE(::read(answer_.get(), &byte, 1) == 1);
    }

    pid_t pid_ = -1;
    unique_fd command_, answer_;
    bool reaped_ = false;
};

inline ipc::audit_report report_of(pid_t pid, const ipc::audit_options& options = {}) {
    auto report = ipc::audit(pid, options);
    REQUIRE_MESSAGE(report.has_value(), report.error().message());
    return std::move(*report);
}

inline std::vector<ipc::finding> of_kind(const ipc::audit_report& report, ipc::hazard kind) {
    std::vector<ipc::finding> found;
    for (const ipc::finding& f : report.findings)
        if (f.kind == kind) found.push_back(f);
    return found;
}

// The descriptors are high, so that their numbers are known.
inline constexpr int k_number = 40;
inline void keep(int fd) {
    if (fd < 0 || ::dup2(fd, k_number) < 0) ::_exit(2);
    ::close(fd);
}

inline void* wait_for_ever(void*) {
    for (;;) ::pause();
}

// Back when it runs: before that nobody can see whose it is.
inline void start_named_thread(const char* name) {
    pthread_t thread{};
    std::promise<void> runs;
    const auto begin = [](void* promise) {
        static_cast<std::promise<void>*>(promise)->set_value();
        return wait_for_ever(nullptr);
    };
    if (::pthread_create(&thread, nullptr, begin, &runs) != 0) ::_exit(2);
    ::pthread_setname_np(thread, name);
    runs.get_future().wait();
}
inline void start_thread() { start_named_thread("audited_thread"); }

// One that ends with the victim.
inline void start_child() {
    const pid_t parent = ::getpid();
    if (::fork() != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(0);
    for (;;) ::pause();
}

}  // namespace cleanfork::test
