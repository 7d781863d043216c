#include "forkserver/daemon/core.hpp"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/resource.h>

#include <algorithm>

#include "forkserver/daemon/loop/memory_reserve.hpp"
#include "ipc/base/cgroups.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// What is read and planned is there more than once for a while.
constexpr std::size_t k_share_of_memory = 4;

std::string new_instance() {
    unsigned char bytes[16];
    for (std::size_t done = 0; done < sizeof bytes;) {
        const ssize_t n = ::getrandom(bytes + done, sizeof bytes - done, 0);
        if (n > 0) done += static_cast<std::size_t>(n);
    }
    std::string text;
    for (const unsigned char b : bytes) {
        text += "0123456789abcdef"[b >> 4];
        text += "0123456789abcdef"[b & 15];
    }
    return text;
}

}  // namespace

std::size_t memory_limit() {
    std::size_t least = 0;
    const auto limit = [&least](std::uint64_t bytes) {
        if (bytes != 0 && (least == 0 || bytes < least)) least = bytes;
    };
    for (const auto resource : {RLIMIT_AS, RLIMIT_DATA}) {
        rlimit now{};
        if (::getrlimit(resource, &now) == 0 && now.rlim_cur != RLIM_INFINITY) limit(now.rlim_cur);
    }
    // Those above it bind as well: the nearest one is as a rule the one that is meant.
    const std::string cgroup = ipc::own_cgroup();
    if (!cgroup.empty())
        limit(ipc::to_number<std::uint64_t>(ipc::read_line(AT_FDCWD, cgroup + "/memory.max")));
    return least;
}

quotas fitted(quotas q, std::size_t descriptor_limit, std::size_t memory_limit) {
    q.sessions_per_uid =
        std::min(q.sessions_per_uid, std::max<std::size_t>(descriptor_limit / 4, 1));
    q.queued_descriptors_per_session = std::min(
        q.queued_descriptors_per_session, std::max(descriptor_limit / 8, ipc::k_max_descriptors));
    q.queued_descriptors_per_user =
        std::max(std::min(q.queued_descriptors_per_user, descriptor_limit / 4),
                 q.queued_descriptors_per_session);
    if (memory_limit != 0)
        q.memory_per_user = std::min(q.memory_per_user, memory_limit / k_share_of_memory);
    return q;
}

void counters::count_spawn(std::uint64_t ns) noexcept {
    ++spawned;
    spawn_ns += ns;
    spawn_ns_max = std::max(spawn_ns_max, ns);
}

core::core(event_loop& loop, server_config c, spawn::launcher l, logger& logger)
    : io(loop),
      config(std::move(c)),
      log(logger),
      launcher(std::move(l)),
      closing(std::make_shared<closers>(io, launcher.self().null_fd, logger)),
      instance(new_instance()),
      started_ns(ipc::monotonic_ns()) {
    launcher.dispose_by(closing);
}

failure core::over_quota(const char* what, std::size_t most, const char* option) {
    ++total.quota_refusals;
    log.debug("quota_refused", {{"what", what}, {"option", option}});
    return ipc::fail(
        step::quota, EDQUOT, what,
        "RESOURCE_EXHAUSTED: at most " + std::to_string(most) + " in one session (" + option + ")");
}

failure core::over_quota_of_user(const char* what, std::size_t most, const char* option) {
    ++total.quota_refusals;
    log.debug("quota_refused", {{"what", what}, {"option", option}});
    return ipc::fail(step::quota, EDQUOT, what,
                     "RESOURCE_EXHAUSTED: at most " + std::to_string(most) +
                         " in all sessions of the user together (" + option + ")");
}

failure core::refusal(const amounts& more) {
    const amounts& used = *of_user;
    const quotas& q = config.quotas;
    if (used.spawns + more.spawns > q.queued_per_user)
        return over_quota_of_user("queued spawns", q.queued_per_user, "--max-user-queued");
    if (used.descriptors + more.descriptors > q.queued_descriptors_per_user)
        return over_quota_of_user("descriptors of queued spawns", q.queued_descriptors_per_user,
                                  "--max-user-descriptors");
    if (used.children + used.calls + more.children > q.children_per_user)
        return over_quota_of_user("children", q.children_per_user, "--max-user-children");
    if (used.memory + more.memory > q.memory_per_user)
        return over_quota_of_user("bytes of memory for requests", q.memory_per_user,
                                  "--max-user-memory");
    if (memory_reserve::is_there()) return {};
    ++total.quota_refusals;
    return ipc::fail(step::quota, ENOMEM, "memory",
                     "RESOURCE_EXHAUSTED: the forkserver has none left but to end what has begun");
}

failure core::ending() {
    return ipc::fail(step::shutdown, ESHUTDOWN, {}, "the forkserver is ending");
}

}  // namespace cleanfork::daemon
