// From messages of the wire to the client's own types.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <cleanfork/client.hpp>

namespace cleanfork::detail {

exit_status status_of(const v1::Exit& e);
resource_usage usage_of(const v1::Exit& e);
inline std::chrono::nanoseconds wall_of(const v1::Exit& e) {
    return std::chrono::nanoseconds(e.wall_ns());
}

std::vector<child_info> children_of(const v1::ListReply& r);
server_stats stats_of(const v1::StatsReply& r);
server_info server_of(const v1::HelloReply& r);

v1::SignalTarget to_wire(signal_target t) noexcept;

}  // namespace cleanfork::detail
