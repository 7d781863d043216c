// The rules of a spawn request, part by part; see prepare() in plan.hpp.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "forkserver/spawn/plan.hpp"

namespace cleanfork::spawn {

// One use: fills a `prepared` from its request. The parts run in the order of
// their declaration: the program is searched in the environment made before it,
// and the map must be known to the terminal.
class planner {
public:
    planner(prepared& out, const std::vector<int>& purposes, const parent_facts& self)
        : out_(out), plan_(out.plan), request_(*out.request_), purposes_(purposes), self_(self) {}

    result<void> run();

    // `out` has the request then, also when it cannot be met.
    static result<void> prepare_into(prepared& out, std::unique_ptr<v1::SpawnRequest> request,
                                     const std::vector<int>& purposes,
                                     shared_descriptors descriptors,
                                     std::shared_ptr<const session_base> base,
                                     const parent_facts& self);
    static result<std::unique_ptr<prepared>> prepare(std::unique_ptr<v1::SpawnRequest> request,
                                                     const std::vector<int>& purposes,
                                                     shared_descriptors descriptors,
                                                     std::shared_ptr<const session_base> base,
                                                     const parent_facts& self);

private:
    // plan_program.cpp
    result<void> target();
    result<void> arguments();
    result<void> call();
    result<void> environment();
    result<void> activation(std::set<std::string_view>& replaced);
    result<void> program();
    void search(const std::string& name);

    // plan_caller.cpp
    result<void> caller();
    result<void> caller_conduct();
    result<void> caller_rights();
    result<void> capabilities();

    // plan_attributes.cpp
    result<int> descriptor(std::uint32_t reference, v1::DescriptorPurpose purpose,
                           const char* what);
    result<void> directory();
    result<void> map();
    result<void> groups_and_terminal();
    result<void> scheduling();
    result<void> cpus();
    result<void> limits();
    result<void> credentials();
    result<void> ignored_signals();
    result<void> cgroup();
    result<void> life();
    void bound();

    prepared& out_;
    plan& plan_;
    v1::SpawnRequest& request_;
    const std::vector<int>& purposes_;
    const parent_facts& self_;
};

// step::request, EINVAL, about `object`.
failure invalid(std::string object, std::string detail);
bool has_nul(const std::string& s) noexcept;
bool is_signal(int number) noexcept;
std::string_view name_of(std::string_view assignment) noexcept;
// `s` without NUL and of at most `most` bytes.
result<void> check_string(const char* what, const std::string& s, std::size_t most);

}  // namespace cleanfork::spawn
