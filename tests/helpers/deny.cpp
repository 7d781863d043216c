// Runs a program in which chosen system calls fail.
//
//     deny [ARG...] --deny=CALL[:argN=VALUE|:argN!=VALUE]...=ERRNO... --program=PATH
//
// The program gets every other argument. A call that matches all conditions of
// a rule gives the errno (a number) without being made; VALUE has 64 bits. The
// children of the program are under the same filter: that is what it is for.
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

const std::map<std::string_view, std::uint32_t> k_calls = {
    {"clone", SYS_clone},
    {"clone3", SYS_clone3},
    {"close_range", SYS_close_range},
#ifdef SYS_dup2
    {"dup2", SYS_dup2},
#else
    {"dup2", SYS_dup3},
#endif
    {"epoll_ctl", SYS_epoll_ctl},
    {"fchdir", SYS_fchdir},
    {"fcntl", SYS_fcntl},
    {"execveat", SYS_execveat},
    {"pidfd_open", SYS_pidfd_open},
    {"pidfd_send_signal", SYS_pidfd_send_signal},
    {"prctl", SYS_prctl},
    {"prlimit64", SYS_prlimit64},
    {"rt_sigprocmask", SYS_rt_sigprocmask},
    {"sched_setaffinity", SYS_sched_setaffinity},
    {"sched_setscheduler", SYS_sched_setscheduler},
    {"setgroups", SYS_setgroups},
    {"setpriority", SYS_setpriority},
    {"setresgid", SYS_setresgid},
    {"setresuid", SYS_setresuid},
    {"capset", SYS_capset},
    {"setsid", SYS_setsid},
    {"setpgid", SYS_setpgid},
    {"waitid", SYS_waitid},
};

struct condition {
    unsigned argument;
    bool equal;
    std::uint64_t value;
};

struct rule {
    std::uint32_t call = 0;
    std::vector<condition> conditions;
    std::uint32_t error_number = 0;
};

std::optional<rule> parse(std::string_view text) {
    const std::size_t last = text.rfind('=');
    if (last == std::string_view::npos) return std::nullopt;
    rule r;
    r.error_number =
        static_cast<std::uint32_t>(std::atoi(std::string(text.substr(last + 1)).c_str()));
    text = text.substr(0, last);
    std::size_t colon = text.find(':');
    const auto call = k_calls.find(text.substr(0, colon));
    if (call == k_calls.end()) return std::nullopt;
    r.call = call->second;
    while (colon != std::string_view::npos) {
        text.remove_prefix(colon + 1);
        colon = text.find(':');
        const std::string_view part = text.substr(0, colon);
        const std::size_t equals = part.find('=');
        if (!part.starts_with("arg") || equals == std::string_view::npos) return std::nullopt;
        r.conditions.push_back(
            {static_cast<unsigned>(part[3] - '0'), part[equals - 1] != '!',
             std::strtoull(std::string(part.substr(equals + 1)).c_str(), nullptr, 0)});
    }
    return r;
}

constexpr auto k_load = static_cast<std::uint16_t>(BPF_LD | BPF_W | BPF_ABS);
constexpr auto k_equal = static_cast<std::uint16_t>(BPF_JMP | BPF_JEQ | BPF_K);
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
        if (c->equal)
            test = {{k_load, 0, 0, at},
                    {k_equal, 0, next, low},
                    {k_load, 0, 0, at + 4},
                    {k_equal, 0, past, high}};
        else  // the low half alone decides: enough for the small values in use
            test = {{k_load, 0, 0, at}, {k_equal, past, 0, low}};
        body.insert(body.begin(), test.begin(), test.end());
    }
    out.push_back({k_load, 0, 0, static_cast<std::uint32_t>(offsetof(seccomp_data, nr))});
    out.push_back({k_equal, 0, static_cast<std::uint8_t>(body.size()), r.call});
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
