#include "forkserver/spawn/credentials.hpp"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "ipc/base/raw_call.hpp"

// Raw system calls: libc's setxid broadcasts to threads, and errno is the parent's: neither must
// happen in memory shared with it.

namespace cleanfork::spawn {

namespace {

struct capability_words {
    std::uint64_t effective, permitted, inheritable;
};

using ipc::error_of;
using ipc::raw_call;

bool has(std::uint64_t set, unsigned capability) noexcept { return (set >> capability & 1) != 0; }

capability_words capabilities_now() noexcept {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    raw_call(SYS_capget, &header, data);
    const auto whole = [](std::uint32_t low, std::uint32_t high) {
        return std::uint64_t{high} << 32 | low;
    };
    return {whole(data[0].effective, data[1].effective),
            whole(data[0].permitted, data[1].permitted),
            whole(data[0].inheritable, data[1].inheritable)};
}

int set_capabilities(const capability_words& w) noexcept {
    const auto low = [](std::uint64_t set) { return static_cast<std::uint32_t>(set); };
    const auto high = [](std::uint64_t set) { return static_cast<std::uint32_t>(set >> 32); };
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    const __user_cap_data_struct data[2] = {
        {low(w.effective), low(w.permitted), low(w.inheritable)},
        {high(w.effective), high(w.permitted), high(w.inheritable)}};
    return error_of(raw_call(SYS_capset, &header, data));
}

// A forkserver that was started with another effective user has permitted what is not in effect.
void use_all_that_is_permitted() noexcept {
    capability_words now = capabilities_now();
    if (now.effective == now.permitted) return;
    now.effective = now.permitted;
    (void)set_capabilities(now);
}

int drop_from_bounding_set(const credential_plan& c) noexcept {
    if (!c.set_bounding) return 0;
    for (unsigned n = 0; n < 64; ++n) {
        if (has(c.bounding, n)) continue;
        const long there = raw_call(SYS_prctl, PR_CAPBSET_READ, n, 0, 0, 0);
        if (there < 0) break;  // above the last that this kernel knows
        if (there != 1) continue;
        if (const int e = error_of(raw_call(SYS_prctl, PR_CAPBSET_DROP, n, 0, 0))) return e;
    }
    return 0;
}

bool has_groups(const credential_plan& c) noexcept {
    gid_t now[1024];
    const long n = raw_call(SYS_getgroups, std::size(now), now);
    return n >= 0 && static_cast<std::size_t>(n) == c.group_count &&
           std::equal(now, now + n, c.groups);
}

int change_groups(const credential_plan& c) noexcept {
    if (!c.set_groups) return 0;
    const int e = error_of(raw_call(SYS_setgroups, c.group_count, c.groups));
    // A template whose caller had no rights has these already; to ask for groups needs a right.
    return e == EPERM && c.set_permitted && has_groups(c) ? 0 : e;
}

int change_gid(const credential_plan& c) noexcept {
    if (!c.set_gid) return 0;
    return error_of(raw_call(SYS_setresgid, c.gid.real, c.gid.effective, c.gid.saved));
}

int change_uid(const credential_plan& c) noexcept {
    if (!c.set_uid) return 0;
    return error_of(raw_call(SYS_setresuid, c.uid.real, c.uid.effective, c.uid.saved));
}

bool changes_capabilities(const credential_plan& c) noexcept {
    return c.set_inheritable || c.set_ambient || c.set_permitted || c.set_securebits;
}

std::uint64_t ambient_in(std::uint64_t possible) noexcept {
    std::uint64_t set = 0;
    for (unsigned n = 0; n < 64; ++n)
        if (has(possible, n) &&
            raw_call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, n, 0) == 1)
            set |= std::uint64_t{1} << n;
    return set;
}

int change_ambient(const credential_plan& c) noexcept {
    if (!c.set_ambient) return 0;
    raw_call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0);
    for (unsigned n = 0; n < 64; ++n)
        if (has(c.ambient, n))
            if (const int e =
                    error_of(raw_call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, n, 0)))
                return e;
    return 0;
}

int change_securebits(const credential_plan& c) noexcept {
    constexpr unsigned k_keep = 1U << SECURE_KEEP_CAPS;
    const auto now = static_cast<unsigned>(raw_call(SYS_prctl, PR_GET_SECUREBITS, 0, 0, 0));
    if (!c.set_securebits || (now & ~k_keep) == c.securebits) return 0;
    return error_of(raw_call(SYS_prctl, PR_SET_SECUREBITS, c.securebits | (now & k_keep), 0, 0));
}

// As an exec by this user would leave them (capabilities(7)).
capability_words after_exec(const capability_words& now, const credential_plan& c) noexcept {
    std::uint32_t real = 0, effective = 0, saved = 0;
    raw_call(SYS_getresuid, &real, &effective, &saved);
    capability_words w = now;
    if (real == 0 || effective == 0) {
        if (c.set_bounding) w.permitted &= c.bounding | w.inheritable;
        w.effective &= w.permitted;
        return w;
    }
    w.permitted = ambient_in(w.permitted & w.inheritable);
    w.effective = w.permitted;
    return w;
}

// After the user: all that is still permitted is used for the changes, and given up with the last.
int change_capabilities(const credential_plan& c) noexcept {
    if (!changes_capabilities(c) && !c.set_bounding) return 0;
    capability_words w = capabilities_now();
    const std::uint64_t effective = w.effective;
    w.effective = w.permitted;
    if (c.set_inheritable) w.inheritable = c.inheritable;
    if (c.set_ambient) w.inheritable |= c.ambient;
    if (const int e = set_capabilities(w)) return e;
    if (const int e = change_ambient(c)) return e;
    if (const int e = change_securebits(c)) return e;
    raw_call(SYS_prctl, PR_SET_KEEPCAPS, 0, 0, 0);
    if (c.set_permitted) {
        w.permitted &= c.permitted;
        w.effective = w.permitted & c.effective;
    } else {
        w.effective = c.set_uid ? w.permitted : effective;
        w = after_exec(w, c);
    }
    return set_capabilities(w);
}

}  // namespace

failed_change change_credentials(const credential_plan& c) noexcept {
    if (c.set_permitted) use_all_that_is_permitted();
    if (const int e = drop_from_bounding_set(c)) return {step::capabilities, e};
    if (const int e = change_groups(c)) return {step::groups, e};
    if (const int e = change_gid(c)) return {step::gid, e};
    // Else a change from root to another user would lose what is to be ambient.
    if (c.set_uid && changes_capabilities(c)) raw_call(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0);
    if (const int e = change_uid(c)) return {step::uid, e};
    if (const int e = change_capabilities(c)) return {step::capabilities, e};
    if (c.no_new_privs)
        if (const int e = error_of(raw_call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0)))
            return {step::no_new_privs, e};
    return {};
}

}  // namespace cleanfork::spawn
