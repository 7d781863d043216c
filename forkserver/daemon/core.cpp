#include "forkserver/daemon/core.hpp"

#include <sys/random.h>

#include <algorithm>

#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

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

quotas fitted(quotas q, std::size_t descriptor_limit) {
    q.sessions_per_uid =
        std::min(q.sessions_per_uid, std::max<std::size_t>(descriptor_limit / 4, 1));
    q.queued_descriptors_per_session = std::min(
        q.queued_descriptors_per_session, std::max(descriptor_limit / 8, ipc::k_max_descriptors));
    return q;
}

void counters::count_spawn(std::uint64_t ns) noexcept {
    ++spawned;
    spawn_ns += ns;
    spawn_ns_max = std::max(spawn_ns_max, ns);
}

core::core(boost::asio::io_context& io_context, server_config c, spawn::launcher l, logger& logger)
    : io(io_context),
      config(std::move(c)),
      log(logger),
      launcher(std::move(l)),
      closing(std::make_shared<closers>(io, launcher, logger)),
      instance(new_instance()),
      started_ns(ipc::monotonic_ns()) {}

failure core::over_quota(const char* what, std::size_t most, const char* option) {
    ++total.quota_refusals;
    return ipc::fail(
        step::quota, EDQUOT, what,
        "RESOURCE_EXHAUSTED: at most " + std::to_string(most) + " in one session (" + option + ")");
}

failure core::ending() {
    return ipc::fail(step::shutdown, ESHUTDOWN, {}, "the forkserver is ending");
}

}  // namespace cleanfork::daemon
