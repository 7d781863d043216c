// A forkserver with the template of tests/helpers/template_program.cpp.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/integration/hostile/hostile_daemon.hpp"
#include "tests/integration/hostile/hostile_session.hpp"

namespace cleanfork::testing {

// How a template of the tests is added; the name is "t".
struct template_request {
    std::string name = "t";
    std::map<std::string, std::string> env{};
    std::uint32_t warm = 0;
    std::uint32_t start_timeout_ms = 0;
    std::uint32_t call_timeout_ms = 0;
    std::string from{};
    std::string payload{};  // of the derived one's initializer
};

v1::ClientMessage add_request(const template_request& t);
// The reply to it; the failure is in it.
reply add_template(raw_session& s, const template_request& t = {});
void remove_template(raw_session& s, const std::string& name = "t");
// What the forkserver has once the allocators keep what a template takes.
baseline after_a_first_template(const test_daemon& daemon, raw_session& s);
v1::TemplateInfo template_info(raw_session& s, const std::string& name = "t");
[[noreturn]] void fail_with(const v1::TemplateInfo& info);
// Asks until `enough` says so.
template <class Enough>
v1::TemplateInfo info_until(raw_session& s, Enough enough, const std::string& name = "t") {
    const auto give_up = std::chrono::steady_clock::now() + k_patience;
    for (;;) {
        v1::TemplateInfo i = template_info(s, name);
        if (enough(i)) return i;
        if (std::chrono::steady_clock::now() > give_up) fail_with(i);
    }
}

v1::SpawnRequest call_of(const std::string& entry, const std::vector<std::string>& arguments = {},
                         const std::string& name = "t");

struct answer {
    failure refused;  // step::none: it ran
    v1::Exit exit;
    std::string bytes;  // what the entry answered
};

// Calls and waits. `descriptors` are mapped from 5 on, by name.
answer call(raw_session& s, v1::SpawnRequest r,
            const std::vector<std::pair<std::string, int>>& descriptors = {});

// A call of an entry that waits for ever, which runs.
struct sleeping_call {
    explicit sleeping_call(raw_session& s, const v1::SpawnRequest& r = call_of("sleep"));
    // It still runs; ends it, and is told how it ended.
    void expect_exact_end(raw_session& s) const;
    std::uint64_t child = 0;
    pid_t pid = 0;
    unique_fd pidfd;
};

// The replies to these requests, in whatever order they come.
std::map<std::uint64_t, reply> gather(raw_session& s, const std::vector<std::uint64_t>& requests);

// A memfd for a result, or with a payload.
unique_fd memory_file(std::string_view contents = {});
std::string contents_of(int fd);

}  // namespace cleanfork::testing
