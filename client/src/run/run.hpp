// client::run() and run_call(): spawn or call, feed, gather and wait in one blocking call.
#pragma once

#include <string_view>

#include "client/src/requests/spawn_requests.hpp"
#include "client/src/run/pipes.hpp"

namespace cleanfork::detail {

// A program that is run, and what it reads. Borrowed.
struct program_run {
    const spawn_options& options;
    std::string_view input;

    [[nodiscard]] const spawn_options& attributes() const noexcept { return options; }
};
// An entry that is run has its input in the payload.
struct entry_run {
    entry_call call;
    std::string_view input{};

    [[nodiscard]] const spawn_options& attributes() const noexcept {
        return call.options.attributes;
    }
};

// The packet of a run. Its reply is held for a moment, so that a short-lived
// child costs one wake-up of this program and no pidfd.
result<spawn_request> fill_run(outgoing& m, const deadline& d, const program_run& run);
result<spawn_request> fill_run(outgoing& m, const deadline& d, const entry_run& run);

result<call_result> run(const std::shared_ptr<connection>& c, const program_run& what,
                        const timeout& t);
result<call_result> run(const std::shared_ptr<connection>& c, const entry_run& what,
                        const timeout& t);

// Kills the child, and its process group when it has one of its own.
void kill_run(const process& child, const process_group& group);

// What there is to tell of a child that has ended; takes its answer.
call_result gathered(process& child, const exit_status& status, pipes&& streams);

}  // namespace cleanfork::detail
