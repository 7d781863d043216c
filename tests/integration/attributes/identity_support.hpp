// A program that changes what it is after its forkserver began, and what its children are then.
#pragma once

#include <cleanfork/client.hpp>
#include <functional>
#include <string>

#include "tests/integration/attributes/inspection.hpp"

namespace cleanfork::test {

// The last step of tests that ask for it.
inline constexpr uid_t k_someone = 65534;

// Fields of /proc/self/status of a child, or {"step", "errno", "object"} of the failure.
json status_of_spawn(const client& c, spawn_options o = {});
json status_of_call(const client& c, const call_options& o = {});
// Adds the template "t", whose entry "status" status_of_call() calls; a failure, or null.
json add_template(const client& c);
json to_json(const failure& f);

// In a copy of this program, which is root and has one thread: `change` after `client` began.
json after(const std::function<void(const client&)>& change,
           const std::function<json(const client&)>& look, const launch_options& o = {});
json after(const std::function<void()>& change, const std::function<json(const client&)>& look);

// Gives up root for good; for this thread alone, as the kernel has it.
void give_up_root();
void give_up_root_of_this_thread();

// Throws what errno says.
void must(bool done, const char* what);

}  // namespace cleanfork::test
