// What a template and its children tell the forkserver. Blocking: a template has
// nothing else to do, and the forkserver always reads.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <cleanfork/failure.hpp>
#include <span>
#include <string>

namespace cleanfork::templates {

// Sends `m` with its descriptors (borrowed). False when the forkserver has gone.
bool report(int control, const v1::TemplateMessage& m, std::span<const int> descriptors = {});

bool report_failed(int control, const failure& why);
bool report_child_failed(int control, std::uint64_t sequence, const failure& why);
// With a pidfd of this process, made here: once, when it parks or else when it starts.
bool report_parked(int control, std::uint64_t sequence);
enum class was_parked { no, yes };
bool report_started(int control, std::uint64_t sequence, was_parked before);

// Of the exception being handled, for those reports.
std::string text_of_current_exception();

}  // namespace cleanfork::templates
