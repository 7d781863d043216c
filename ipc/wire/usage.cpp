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

}  // namespace cleanfork::ipc
