#include "tests/integration/templates/template_load.hpp"

#include <doctest/doctest.h>
#include <sys/syscall.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>

namespace cleanfork::testing {

namespace {

// What the allocators keep of the first rounds, and the page tables.
constexpr std::uint64_t k_kept_kib = 1024;
constexpr std::size_t k_codes = 251;

std::string process_directory(pid_t pid) { return "/proc/" + std::to_string(pid); }

std::uint64_t rss_kib_of(pid_t pid) {
    std::ifstream in(process_directory(pid) + "/status");
    for (std::string line; std::getline(in, line);)
        if (line.starts_with("VmRSS:")) return std::stoull(line.substr(6));
    return 0;
}

std::size_t descriptors_of(pid_t pid) {
    const std::filesystem::directory_iterator all(process_directory(pid) + "/fd");
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// Its loop waits for orders. A child it has forked can be heard of before its fork() has
// returned, while it still holds that child's channel.
void wait_until_at_rest(pid_t pid) {
    const auto give_up = std::chrono::steady_clock::now() + k_patience;
    long number = -1;
    while (number != SYS_poll) {
        REQUIRE_MESSAGE(std::chrono::steady_clock::now() < give_up, "system call ", number);
        std::ifstream in(process_directory(pid) + "/syscall");
        number = -1;  // it runs
        in >> number;
    }
}

// Keeps `in_flight` calls going until `count` have ended.
void make_calls(raw_session& s, std::size_t count, std::size_t in_flight) {
    std::map<std::uint64_t, std::uint32_t> asked;    // request, code
    std::map<std::uint64_t, std::uint32_t> running;  // child, code
    std::size_t posted = 0, ended = 0;
    const auto post = [&] {
        const auto code = static_cast<std::uint32_t>(posted++ % k_codes);
        asked.emplace(s.post_spawn(call_of("exit", {std::to_string(code)})), code);
    };
    while (ended < count) {
        while (posted < count && asked.size() + running.size() < in_flight) post();
        const auto r = s.receive();
        REQUIRE(r.has_value());
        if (const auto at = asked.find(r->message.request_id()); at != asked.end()) {
            REQUIRE_MESSAGE(failure_in(*r) == failure{}, failure_in(*r).message());
            running.emplace(r->message.spawn().spawned().child(), at->second);
            asked.erase(at);
        }
        for (auto at = s.exits.begin(); at != s.exits.end();) {
            const auto child = running.find(at->first);
            if (child == running.end()) {
                ++at;
                continue;
            }
            REQUIRE(at->second.how_case() == v1::Exit::kCode);
            REQUIRE(at->second.code() == child->second);
            s.acknowledge({at->first});
            running.erase(child);
            at = s.exits.erase(at);
            ++ended;
        }
    }
    REQUIRE(s.exits.empty());
}

}  // namespace

footprint footprint_of(raw_session& s, int warm) {
    const v1::TemplateInfo i = info_until(s, [warm](const v1::TemplateInfo& t) {
        return t.generations_size() == 1 && t.generations(0).children() == 0 &&
               t.generations(0).warm_pids_size() == warm;
    });
    const v1::StatsReply stats = s.stats_until(
        [](const v1::StatsReply& now) { return now.statuses() == 0 && now.queued() == 0; });
    const pid_t pid = i.generations(0).pid();
    wait_until_at_rest(pid);
    return {stats.descriptors(), stats.rss_kib(), descriptors_of(pid), rss_kib_of(pid)};
}

void run_load(const load& l) {
    const subreaper mine;
    test_daemon daemon({.args = {"--log-level", "error"}});
    raw_session s(daemon);
    REQUIRE(failure_in(add_template(s, {.warm = l.warm})) == failure{});
    const auto warm = static_cast<int>(l.warm);
    make_calls(s, l.calls / 10, l.in_flight);
    const footprint before = footprint_of(s, warm);
    const auto begin = std::chrono::steady_clock::now();
    make_calls(s, l.calls - l.calls / 10, l.in_flight);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    const footprint after = footprint_of(s, warm);
    MESSAGE(l.calls, " calls, ", l.in_flight, " in flight, ", l.warm,
            " warm: ", static_cast<double>(l.calls - l.calls / 10) / took.count(),
            "/s; forkserver: descriptors ", before.descriptors, " to ", after.descriptors, ", RSS ",
            before.rss_kib, " to ", after.rss_kib, " KiB; template: descriptors ",
            before.template_descriptors, " to ", after.template_descriptors, ", RSS ",
            before.template_rss_kib, " to ", after.template_rss_kib, " KiB");
    CHECK(after.descriptors == before.descriptors);
    CHECK(after.template_descriptors == before.template_descriptors);
    CHECK(template_info(s).generation() == 1);
    CHECK(template_info(s).restarts() == 0);
    CHECK(template_info(s).calls_total() == l.calls);
    if (k_sanitized) return;  // its quarantine keeps what was freed
    CHECK(after.rss_kib <= before.rss_kib + k_kept_kib);
    CHECK(after.template_rss_kib <= before.template_rss_kib + k_kept_kib);
}

}  // namespace cleanfork::testing
