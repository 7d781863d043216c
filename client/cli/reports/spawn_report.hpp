// What `cleanfork spawn` and `call` say: never on standard output while the child has it.
#pragma once

#include <chrono>
#include <cleanfork/client.hpp>
#include <string>

#include "client/cli/options/spawn_request.hpp"

namespace cleanfork::cli {

struct child_end {
    exit_status status;
    resource_usage usage;
    std::chrono::nanoseconds wall{};
    bool timed_out = false;
    bool expected = false;                  // the signal it died of was sent by this command
    std::chrono::nanoseconds turnaround{};  // from the request to the news of the end
    // Of a call.
    std::string exception;  // that its entry ended with
    unique_fd answer;       // a memfd; empty: none was asked for
};

class spawn_report {
public:
    explicit spawn_report(const spawn_request& request) : request_(request) {}

    void note(const std::string& line) const;    // unless --quiet
    void detail(const std::string& line) const;  // with --verbose
    void server(const cleanfork::client& client, const std::string& socket,
                std::chrono::nanoseconds time) const;
    void started(const process& child, std::chrono::nanoseconds time) const;
    void detached(const process& child) const;
    void ended(const process& child, const child_end& end) const;
    void failed(const failure& f) const;
    // An error that is no failure of a step.
    void error(const std::string& why) const;

private:
    void status_line(const std::string& line) const;

    const spawn_request& request_;
};

}  // namespace cleanfork::cli
