// One path with one fault, and all that is looked at afterwards.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tests/faults/judge.hpp"
#include "tests/faults/paths.hpp"
#include "tests/faults/world.hpp"

namespace cleanfork::faults {

struct run_report {
    bool injected = false;
    std::string outcome;  // what the client was told
    std::string finding;  // what is wrong; empty: nothing
};

class runner {
public:
    runner();

    // The calls of the path, when nothing fails.
    std::vector<watch::seen> record(const path& p);
    run_report run(const path& p, const std::optional<fault>& f);
    // After a run without a finding: what of it stays in the forkserver each time that it is
    // repeated. Empty: nothing.
    std::string lost_memory(const path& p, const fault& f);
    std::string log() const { return world_.log(); }

private:
    void count_allocations();
    void note_allocations();
    std::string prepare();
    [[nodiscard]] std::string strange_files();
    run_report run_start(const std::optional<fault>& f);
    run_report run_client(const path& p, const std::optional<fault>& f);
    std::string look_after(const path& p, const std::optional<fault>& f);
    std::string look_after_death(const path& p, const std::optional<fault>& f);
    pid_t begin_client(const path& p, story& s);
    pid_t begin_command(const path& p, int out, int err);

    watch watch_;
    world world_;
    std::optional<fault> fault_;
    long allocations_ = 0;  // of the forkserver while it was counted
    bool allocation_failed_ = false;
    std::vector<watch::seen> record_;
    bool is_usable_ = false;  // the world, for another path
    pid_t measured_ = 0;      // the forkserver of most_held_
    long most_held_ = 0;      // allocations that stayed, and were found to be no loss
};

}  // namespace cleanfork::faults
