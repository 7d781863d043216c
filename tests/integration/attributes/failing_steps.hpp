// A spawn that must fail at one step, and the proof that it left nothing behind.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/integration/attributes/inspection.hpp"

namespace cleanfork::test {

struct failing {
    std::string what;
    step at;
    int error_number;
    std::optional<std::string> object;  // nullopt: whatever it is
    spawn_options options;
    std::vector<std::string> denied{};  // rules of the helper `deny`
    std::string features_off{};
    bool others_work = true;  // with the same forkserver, a plain spawn
};

// Rules of `deny`: `call` fails with this errno, and only with an argument of that value.
std::string rule(const std::string& call, int error_number);
std::string argument(int number, std::uint64_t value);

// The attributes whose system calls fail, each in its step; of a call: no program.
std::vector<failing> denied_attributes(const path_or_fd& program);

// What became of it: {"step", "errno", "object", "message"}, or {"spawned"}; with
// "leftovers" and "others" true when all is as before, and as it should be.
json try_failing(const client& c, const failing& f);

// Starts a forkserver as `f` says, tries, and checks all of it.
void check_failing(const failing& f);
// The same with the outcome of a try elsewhere.
void check_outcome(const failing& f, const json& outcome);

}  // namespace cleanfork::test
