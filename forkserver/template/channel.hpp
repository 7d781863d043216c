// What a template and its children tell the forkserver. Blocking: a template has
// nothing else to do, and the forkserver always reads.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <cleanfork/failure.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "forkserver/template/order.hpp"

namespace cleanfork::templates {

// Each is false when the forkserver has gone.
bool report(int control, const v1::TemplateMessage& m);

bool report_failed(int control, const failure& why);
bool report_child_failed(int control, std::uint64_t sequence, const failure& why);
// With a pidfd of this process, made here: once, when it parks or else when it starts.
bool report_parked(int control, std::uint64_t sequence);
enum class was_parked { no, yes };
bool report_started(int control, std::uint64_t sequence, was_parked before);
// `error`: of the entry's exception; empty when there was none.
bool report_ended(int control, const child_end& end, std::string_view error);

// Of the exception being handled, for those reports.
std::string text_of_current_exception();

}  // namespace cleanfork::templates
