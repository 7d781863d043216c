#include "forkserver/spawn/plan.hpp"

#include <algorithm>
#include <csignal>

#include "forkserver/spawn/planner.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::spawn {

namespace {

constexpr std::size_t k_command_shown = 256;

}  // namespace

failure invalid(std::string object, std::string detail) {
    return ipc::fail(step::request, EINVAL, std::move(object), std::move(detail));
}

bool has_nul(const std::string& s) noexcept { return s.find('\0') != std::string::npos; }

bool is_signal(int number) noexcept { return number > 0 && number <= SIGRTMAX; }

std::string_view name_of(std::string_view assignment) noexcept {
    return assignment.substr(0, assignment.find('='));
}

result<void> check_string(const char* what, const std::string& s, std::size_t most) {
    if (has_nul(s)) return invalid(what, "it holds a NUL");
    if (s.size() > most)
        return ipc::fail(step::request, E2BIG, what,
                         "it is longer than " + std::to_string(most) + " bytes");
    return {};
}

void environment_block::seal() {
    pointers.clear();
    pointers.reserve(strings.size() + 1);
    for (std::string& s : strings) pointers.push_back(s.data());
    pointers.push_back(nullptr);
}

bool is_assignment(const std::string& s) noexcept {
    const std::size_t equals = s.find('=');
    return equals != 0 && equals != std::string::npos && !has_nul(s);
}

result<void> planner::run() {
    for (const auto part :
         {&planner::target, &planner::environment, &planner::program, &planner::directory,
          &planner::map, &planner::groups_and_terminal, &planner::caller, &planner::scheduling,
          &planner::limits, &planner::credentials, &planner::capabilities,
          &planner::ignored_signals, &planner::cgroup, &planner::life})
        if (auto r = (this->*part)(); !r) return r;
    bound();
    return {};
}

result<void> planner::prepare_into(prepared& out, std::unique_ptr<v1::SpawnRequest> request,
                                   const std::vector<int>& purposes, shared_descriptors descriptors,
                                   std::shared_ptr<const session_base> base,
                                   const parent_facts& self) {
    out.request_ = std::move(request);
    out.base_ = std::move(base);
    out.descriptors_ = std::move(descriptors);
    return planner(out, purposes, self).run();
}

result<std::unique_ptr<prepared>> planner::prepare(std::unique_ptr<v1::SpawnRequest> request,
                                                   const std::vector<int>& purposes,
                                                   shared_descriptors descriptors,
                                                   std::shared_ptr<const session_base> base,
                                                   const parent_facts& self) {
    auto p = std::make_unique<prepared>();
    auto r = prepare_into(*p, std::move(request), purposes, std::move(descriptors), std::move(base),
                          self);
    if (!r) return r.error();
    return p;
}

result<std::unique_ptr<prepared>> prepare(std::unique_ptr<v1::SpawnRequest> request,
                                          const std::vector<int>& purposes,
                                          shared_descriptors descriptors,
                                          std::shared_ptr<const session_base> base,
                                          const parent_facts& self) {
    return planner::prepare(std::move(request), purposes, std::move(descriptors), std::move(base),
                            self);
}

std::string prepared::object_of(step s, int index) const {
    return spawn::object_of(plan, s, index, {.program = name_, .cgroup = request_->cgroup_path()});
}

unique_fd prepared::dup_cgroup() const {
    return plan.cgroup_fd >= 0 ? ipc::dup_fd(plan.cgroup_fd) : unique_fd();
}

std::string command_of(const v1::SpawnRequest& request) {
    std::string text;
    const auto add = [&text](const std::string& word) {
        if (text.size() >= k_command_shown) return;
        if (!text.empty()) text += ' ';
        text += word.substr(0, k_command_shown);
    };
    if (request.has_call()) {
        add(request.call().template_name());
        add(request.call().entry());
        for (const std::string& a : request.call().arguments()) add(a);
    } else {
        for (const std::string& a : request.exec().argv()) add(a);
    }
    text.resize(std::min(text.size(), k_command_shown));
    return text;
}

}  // namespace cleanfork::spawn
