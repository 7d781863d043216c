// TRACEPARENT, by which programs that are traced tell their children whose they are.
//
// https://www.w3.org/TR/trace-context/#traceparent-header: "00-<32>-<16>-<2>", hexadecimal digits
// in lower case. As a variable: https://opentelemetry.io/docs/specs/otel/context/env-carriers/
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <string>
#include <vector>

#include "forkserver/spawn/plan.hpp"

namespace cleanfork::spawn {

// Of an environment; empty when it has none that is well formed: other values of variables are
// nobody's business.
std::string trace_parent_in(const std::vector<std::string>& environment);

// What the child of the request will have.
std::string trace_parent_of(const v1::SpawnRequest& r, const session_base& base);

}  // namespace cleanfork::spawn
