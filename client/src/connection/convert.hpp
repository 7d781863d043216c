// From messages of the wire to the client's own types.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <chrono>
#include <cleanfork/client.hpp>
#include <cstdint>

namespace cleanfork::detail {

exit_status status_of(const v1::Exit& e);
wait_result end_of(const v1::Exit& e);
tree_means tree_of(v1::TreeMeans t) noexcept;

std::vector<child_info> children_of(const v1::ListReply& r);
server_stats stats_of(const v1::StatsReply& r);
event_page events_of(const v1::EventsReply& r);
server_info server_of(const v1::HelloReply& r);
template_info template_of(const v1::TemplateInfo& t);

v1::SignalTarget to_wire(signal_target t) noexcept;
// As near as the schema's number comes.
std::uint32_t to_wire(std::chrono::milliseconds time) noexcept;

}  // namespace cleanfork::detail
