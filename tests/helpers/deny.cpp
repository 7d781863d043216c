// Runs a program in which chosen system calls fail.
//
//     deny [ARG...] --deny=CALL[:argN=VALUE|:argN!=VALUE|:argN&VALUE]...=ERRNO...
//          --program=PATH
//
// The program gets every other argument. A call that matches all conditions of
// a rule gives the errno (a number) without being made; VALUE has 64 bits, and
// with & one of these bits is set. CALL is a name, or above-N: every call with a
// number above N, as on a kernel that does not know them. The children of the
// program are under the same filter: that is what it is for.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

// By the name that <asm/unistd.h> has.
#define CALL(name) \
    { #name, SYS_##name }
const std::map<std::string_view, std::uint32_t> k_calls = {
    CALL(acct),
    CALL(add_key),
    CALL(bpf),
    CALL(capset),
    CALL(chroot),
    CALL(clock_settime),
    CALL(clone),
    CALL(clone3),
    CALL(close_range),
    CALL(copy_file_range),
    CALL(delete_module),
    CALL(epoll_ctl),
    CALL(execveat),
    CALL(fanotify_init),
    CALL(fanotify_mark),
    CALL(fchdir),
    CALL(fcntl),
    CALL(finit_module),
    CALL(fsconfig),
    CALL(fsmount),
    CALL(fsopen),
    CALL(fspick),
    CALL(get_mempolicy),
    CALL(getsockopt),
    CALL(init_module),
    CALL(io_uring_enter),
    CALL(io_uring_register),
    CALL(io_uring_setup),
    CALL(ioctl),
    CALL(kcmp),
    CALL(kexec_load),
    CALL(keyctl),
    CALL(mbind),
    CALL(memfd_create),
    CALL(migrate_pages),
    CALL(mount),
    CALL(mount_setattr),
    CALL(move_mount),
    CALL(move_pages),
    CALL(mq_timedsend),
    CALL(name_to_handle_at),
    CALL(open_by_handle_at),
    CALL(open_tree),
    CALL(openat2),
    CALL(perf_event_open),
    CALL(personality),
    CALL(pidfd_getfd),
    CALL(pidfd_open),
    CALL(pidfd_send_signal),
    CALL(pivot_root),
    CALL(pkey_alloc),
    CALL(pkey_mprotect),
    CALL(prctl),
    CALL(prlimit64),
    CALL(process_madvise),
    CALL(quotactl),
    CALL(reboot),
    CALL(request_key),
    CALL(rt_sigprocmask),
    CALL(sched_rr_get_interval),
    CALL(sched_setaffinity),
    CALL(sched_setparam),
    CALL(sched_setscheduler),
    CALL(set_mempolicy),
    CALL(setdomainname),
    CALL(setfsgid),
    CALL(setfsuid),
    CALL(setgroups),
    CALL(sethostname),
    CALL(setns),
    CALL(setpgid),
    CALL(setpriority),
    CALL(setresgid),
    CALL(setresuid),
    CALL(setsid),
    CALL(setsockopt),
    CALL(settimeofday),
    CALL(swapon),
    CALL(syslog),
    CALL(umount2),
    CALL(unshare),
    CALL(userfaultfd),
    CALL(vhangup),
    CALL(vmsplice),
    CALL(waitid),
#ifdef SYS_dup2
    CALL(dup2),
#else
    {"dup2", SYS_dup3},
#endif
};
#undef CALL

enum class relation { equal, differs, has_bit };

struct condition {
    unsigned argument;
    relation is;
    std::uint64_t value;
};

struct rule {
    std::uint32_t call = 0;
    bool above = false;  // every call with a higher number
    std::vector<condition> conditions;
    std::uint32_t error_number = 0;
};

// argN=VALUE, argN!=VALUE or argN&VALUE.
std::optional<condition> parse_condition(std::string_view text) {
    if (text.size() < 6 || !text.starts_with("arg")) return std::nullopt;
    condition c{static_cast<unsigned>(text[3] - '0'), relation::equal, 0};
    text.remove_prefix(4);
    if (text.starts_with("!=")) {
        c.is = relation::differs;
        text.remove_prefix(1);
    } else if (text.starts_with("&")) {
        c.is = relation::has_bit;
    } else if (!text.starts_with("=")) {
        return std::nullopt;
    }
    c.value = std::strtoull(std::string(text.substr(1)).c_str(), nullptr, 0);
    return c;
}

std::optional<rule> parse(std::string_view text) {
    const std::size_t last = text.rfind('=');
    if (last == std::string_view::npos) return std::nullopt;
    rule r;
    r.error_number =
        static_cast<std::uint32_t>(std::atoi(std::string(text.substr(last + 1)).c_str()));
    text = text.substr(0, last);
    std::size_t colon = text.find(':');
    const std::string_view call = text.substr(0, colon);
    constexpr std::string_view k_newer = "above-";
    if (call.starts_with(k_newer)) {
        r.above = true;
        r.call = static_cast<std::uint32_t>(
            std::strtoul(std::string(call.substr(k_newer.size())).c_str(), nullptr, 0));
    } else if (const auto known = k_calls.find(call); known != k_calls.end()) {
        r.call = known->second;
    } else {
        return std::nullopt;
    }
    while (colon != std::string_view::npos) {
        text.remove_prefix(colon + 1);
        colon = text.find(':');
        const auto c = parse_condition(text.substr(0, colon));
        if (!c) return std::nullopt;
        r.conditions.push_back(*c);
    }
    return r;
}

constexpr auto k_load = static_cast<std::uint16_t>(BPF_LD | BPF_W | BPF_ABS);
constexpr auto k_equal = static_cast<std::uint16_t>(BPF_JMP | BPF_JEQ | BPF_K);
constexpr auto k_above = static_cast<std::uint16_t>(BPF_JMP | BPF_JGT | BPF_K);
constexpr auto k_any_bit = static_cast<std::uint16_t>(BPF_JMP | BPF_JSET | BPF_K);
constexpr auto k_return = static_cast<std::uint16_t>(BPF_RET | BPF_K);

// Built from its end, where the return is, since a condition that does not hold
// jumps past it. The machine has 32 bits: a value is compared in halves.
void append(const rule& r, std::vector<sock_filter>& out) {
    std::vector<sock_filter> body;
    body.push_back({k_return, 0, 0, SECCOMP_RET_ERRNO | r.error_number});
    for (auto c = r.conditions.rbegin(); c != r.conditions.rend(); ++c) {
        const auto low = static_cast<std::uint32_t>(c->value);
        const auto high = static_cast<std::uint32_t>(c->value >> 32);
        const auto at = static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 8 * c->argument);
        const auto past = static_cast<std::uint8_t>(body.size());
        const auto next = static_cast<std::uint8_t>(past + 2);
        std::vector<sock_filter> test;
        if (c->is == relation::equal)
            test = {{k_load, 0, 0, at},
                    {k_equal, 0, next, low},
                    {k_load, 0, 0, at + 4},
                    {k_equal, 0, past, high}};
        else if (c->is == relation::differs)  // the low half alone decides: enough for small values
            test = {{k_load, 0, 0, at}, {k_equal, past, 0, low}};
        else
            test = {{k_load, 0, 0, at}, {k_any_bit, 0, past, low}};
        body.insert(body.begin(), test.begin(), test.end());
    }
    out.push_back({k_load, 0, 0, static_cast<std::uint32_t>(offsetof(seccomp_data, nr))});
    const auto past = static_cast<std::uint8_t>(body.size());
    out.push_back({r.above ? k_above : k_equal, 0, past, r.call});
    out.insert(out.end(), body.begin(), body.end());
}

bool install(std::vector<sock_filter>& code) {
    code.push_back({k_return, 0, 0, SECCOMP_RET_ALLOW});
    sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
    if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0) return true;
    // Who is not root may do it only without new privileges.
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

}  // namespace

int main(int argc, char** argv) {
    constexpr std::string_view k_deny = "--deny=", k_program = "--program=";
    std::vector<sock_filter> code;
    std::vector<char*> arguments;
    const char* program = nullptr;
    for (int i = 0; i < argc; ++i) {
        const std::string_view a = argv[i];
        if (a.starts_with(k_program)) {
            program = argv[i] + k_program.size();
        } else if (a.starts_with(k_deny)) {
            const auto r = parse(a.substr(k_deny.size()));
            if (!r) {
                std::fprintf(stderr, "deny: cannot read %s\n", argv[i]);
                return 2;
            }
            append(*r, code);
        } else {
            arguments.push_back(argv[i]);
        }
    }
    if (program == nullptr) {
        std::fputs("deny: --program=PATH is missing\n", stderr);
        return 2;
    }
    arguments[0] = const_cast<char*>(program);
    arguments.push_back(nullptr);
    if (!install(code)) {
        std::perror("deny: seccomp");
        return 1;
    }
    ::execv(program, arguments.data());
    std::perror(program);
    return 1;
}
