#include "ipc/wire/usage.hpp"

namespace cleanfork::ipc {

namespace {

std::uint64_t microseconds(const timeval& t) noexcept {
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000U +
           static_cast<std::uint64_t>(t.tv_usec);
}

std::uint64_t counted(long v) noexcept { return v < 0 ? 0U : static_cast<std::uint64_t>(v); }

}  // namespace

void to_wire(const rusage& u, v1::Usage& w) {
    w.set_user_us(microseconds(u.ru_utime));
    w.set_system_us(microseconds(u.ru_stime));
    w.set_max_rss_kib(counted(u.ru_maxrss));
    w.set_minor_faults(counted(u.ru_minflt));
    w.set_major_faults(counted(u.ru_majflt));
    w.set_blocks_in(counted(u.ru_inblock));
    w.set_blocks_out(counted(u.ru_oublock));
    w.set_voluntary_switches(counted(u.ru_nvcsw));
    w.set_involuntary_switches(counted(u.ru_nivcsw));
}

rusage usage_of(const v1::Usage& w) {
    const auto time = [](std::uint64_t us) {
        return timeval{static_cast<time_t>(us / 1'000'000U),
                       static_cast<suseconds_t>(us % 1'000'000U)};
    };
    rusage u{};
    u.ru_utime = time(w.user_us());
    u.ru_stime = time(w.system_us());
    u.ru_maxrss = static_cast<long>(w.max_rss_kib());
    u.ru_minflt = static_cast<long>(w.minor_faults());
    u.ru_majflt = static_cast<long>(w.major_faults());
    u.ru_inblock = static_cast<long>(w.blocks_in());
    u.ru_oublock = static_cast<long>(w.blocks_out());
    u.ru_nvcsw = static_cast<long>(w.voluntary_switches());
    u.ru_nivcsw = static_cast<long>(w.involuntary_switches());
    return u;
}

}  // namespace cleanfork::ipc
