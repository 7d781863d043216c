// What the tests of real children share: forkservers in many variants, and what
// the helper program `inspect` sees of itself in a child.
#pragma once

#include <sys/types.h>

#include <cleanfork/client.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cleanfork::test {

using nlohmann::json;

// The path of a program of tests/helpers.
std::string helper(std::string_view name);

// Sets a variable of this process, and puts it back.
class scoped_variable {
public:
    scoped_variable(const char* name, const std::string& value);
    scoped_variable(const scoped_variable&) = delete;
    scoped_variable& operator=(const scoped_variable&) = delete;
    ~scoped_variable();

private:
    const char* name_;
    std::optional<std::string> before_;
};

// A private forkserver with features (names separated by commas) forced off. With
// $CLEANFORK_TEST_LOG set it logs to our standard error.
client launch_without(const std::string& features, const launch_options& options = {});

// A private forkserver under the helper `deny`: `rules` is what it takes as --deny.
client launch_denying(const std::vector<std::string>& rules, const std::string& features_off = {});

// Features to force off, so that every fallback of a spawn has its turn.
const std::vector<std::string>& variants();

// Runs `body` with a forkserver of each variant. They are shared by all tests of
// the program: `body` must not end, stop or confuse its forkserver.
void with_each_variant(const std::function<void(const client&)>& body);

// The report of `inspect` run as `o` says; o.program, o.args and o.out are set
// here when they are empty. Throws what the client throws.
json inspect(const client& c, spawn_options o = {});

// The value of `name` in the report's environment; nullopt when it is not there.
std::optional<std::string> variable(const json& report, const std::string& name);

// The processes whose parent is `pid`, zombies included.
std::vector<pid_t> children_of(pid_t pid);

// What must not change when a spawn fails.
struct leftovers {
    std::uint64_t descriptors = 0;
    std::uint64_t children = 0;
    std::uint64_t statuses = 0;
    std::vector<pid_t> processes;

    friend bool operator==(const leftovers&, const leftovers&) = default;
};
leftovers leftovers_of(const client& c);

// Runs `body` in a process of this user, which need not be ours, and returns its
// value; {"error": what} when it throws. Only in a program with one thread.
json as_user(uid_t uid, const std::function<json()>& body);

// A path of this process's `fd` for the forkservers and children it starts: for
// those of another user, to whom the directories above may be closed.
std::string path_of(const unique_fd& fd);
unique_fd open_program(const std::string& path);

// Whether this process has the capability (CAP_* of linux/capability.h): root in
// a container lacks some.
bool capable(int capability);

// True, with a message, when this process is not root: the test is to return.
bool skipped_without_root(const char* what);

}  // namespace cleanfork::test
