#include "forkserver/spawn/plan.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <set>
#include <string_view>
#include <unordered_map>

#include "ipc/limits.hpp"
#include "ipc/sys.hpp"

namespace cleanfork::spawn {

namespace {

// What execvp(3) searches when the environment has no PATH (confstr _CS_PATH).
constexpr std::string_view k_default_path = "/bin:/usr/bin";
constexpr std::string_view k_listen_pid = "LISTEN_PID=";
constexpr int k_first_listen_target = 3;  // SD_LISTEN_FDS_START
constexpr std::size_t k_command_shown = 256;

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

}  // namespace

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

// One use: fills a `prepared` part by part, each part a rule or two of the request.
class planner {
public:
    planner(prepared& out, const std::vector<int>& purposes, const environment_of_forkserver& self)
        : out_(out), plan_(out.plan), request_(*out.request_), purposes_(purposes), self_(self) {}

    static result<std::unique_ptr<prepared>> run(std::unique_ptr<v1::SpawnRequest> request,
                                                 const std::vector<int>& purposes,
                                                 shared_descriptors descriptors,
                                                 std::shared_ptr<const session_base> base,
                                                 const environment_of_forkserver& self) {
        auto p = std::make_unique<prepared>();
        p->request_ = std::move(request);
        p->base_ = std::move(base);
        p->descriptors_ = std::move(descriptors);
        planner work(*p, purposes, self);
        for (const auto part :
             {&planner::arguments, &planner::environment, &planner::program, &planner::directory,
              &planner::map, &planner::groups_and_terminal, &planner::scheduling, &planner::limits,
              &planner::credentials, &planner::cgroup, &planner::life})
            if (auto r = (work.*part)(); !r) return r.error();
        work.bound();
        return p;
    }

private:
    result<int> descriptor(std::uint32_t reference, v1::DescriptorPurpose purpose,
                           const char* what) {
        if (reference == 0 || reference > out_.descriptors_->size())
            return invalid(what, "it refers to a descriptor that did not come with the request");
        if (purposes_.at(reference - 1) != purpose)
            return invalid(what, "the descriptor was sent for another purpose");
        return out_.descriptors_->at(reference - 1).get();
    }

    result<void> arguments() {
        if (!request_.has_exec()) return invalid("target", "the request names no program");
        auto& argv = *request_.mutable_exec()->mutable_argv();
        if (argv.empty()) return invalid("argv", "it is empty: argv[0] is the least");
        if (static_cast<std::size_t>(argv.size()) > ipc::k_max_arguments)
            return ipc::fail(step::request, E2BIG, "argv", "too many arguments");
        out_.argv_.reserve(static_cast<std::size_t>(argv.size()) + 1);
        for (std::string& a : argv) {
            if (auto r = check_string("argv", a, ipc::k_max_string); !r) return r;
            out_.argv_.push_back(a.data());
        }
        out_.argv_.push_back(nullptr);
        plan_.argv = out_.argv_.data();
        return {};
    }

    result<void> environment() {
        const bool plain = !request_.has_environment() && request_.listen_descriptors_size() == 0;
        if (plain) {
            plan_.envp = const_cast<char* const*>(out_.base_->environment.pointers.data());
            return {};
        }
        auto& wanted = *request_.mutable_environment();
        if (static_cast<std::size_t>(wanted.set_size() + wanted.unset_size()) >
            ipc::k_max_environment)
            return ipc::fail(step::request, E2BIG, "environment", "too many variables");
        std::set<std::string_view> replaced;
        for (const std::string& name : wanted.unset()) {
            if (name.empty() || has_nul(name) || name.find('=') != std::string::npos)
                return invalid("environment",
                               "a name to unset is not empty and holds no '=' or NUL");
            replaced.insert(name);
        }
        std::unordered_map<std::string_view, char*> set;
        for (std::string& s : *wanted.mutable_set()) {
            if (!is_assignment(s))
                return invalid("environment", "each entry is NAME=VALUE without NUL");
            if (auto r = check_string("environment", s, ipc::k_max_string); !r) return r;
            if (!set.emplace(name_of(s), s.data()).second)
                return invalid("environment",
                               "the variable " + std::string(name_of(s)) + " is set twice");
            replaced.insert(name_of(s));
        }
        if (auto r = activation(replaced); !r) return r;
        if (!wanted.clear())
            for (char* s : out_.base_->environment.pointers)
                if (s != nullptr && !replaced.contains(name_of(s))) out_.env_.push_back(s);
        for (std::string& s : *wanted.mutable_set()) out_.env_.push_back(s.data());
        for (std::string& s : out_.env_strings_) out_.env_.push_back(s.data());
        out_.env_.push_back(nullptr);
        plan_.envp = out_.env_.data();
        return {};
    }

    // sd_listen_fds(3): the child's own pid stands in the environment, so it is
    // written after the clone, into the room left here.
    result<void> activation(std::set<std::string_view>& replaced) {
        if (request_.listen_descriptors_size() == 0) return {};
        std::string names = "LISTEN_FDNAMES=";
        for (const auto& l : request_.listen_descriptors()) {
            const bool printable = std::all_of(l.name().begin(), l.name().end(), [](char c) {
                return static_cast<unsigned char>(c) > ' ' && c != ':' && c != 127;
            });
            if (!printable || l.name().empty() || l.name().size() > 255)
                return invalid("listen_descriptors",
                               "a name has 1 to 255 characters, none of them ':', a blank or a "
                               "control character");
            if (names.back() != '=') names += ':';
            names += l.name();
        }
        auto& strings = out_.env_strings_;
        strings.push_back("LISTEN_FDS=" + std::to_string(request_.listen_descriptors_size()));
        strings.push_back(std::move(names));
        strings.push_back(std::string(k_listen_pid) + std::string(12, '\0'));
        plan_.listen_pid = strings.back().data() + k_listen_pid.size();
        for (const std::string& s : strings) {
            if (replaced.contains(name_of(s)))
                return invalid("environment",
                               std::string(name_of(s)) + " is set by listen_descriptors");
            replaced.insert(name_of(s));
        }
        return {};
    }

    result<void> program() {
        const auto& exec = request_.exec();
        switch (exec.program_case()) {
            case v1::ExecTarget::kProgramDescriptor: {
                auto fd = descriptor(exec.program_descriptor(), v1::DESCRIPTOR_PURPOSE_EXECUTABLE,
                                     "program");
                if (!fd) return fd.error();
                plan_.program_fd = *fd;
                out_.name_ = "descriptor of the program";
                return {};
            }
            case v1::ExecTarget::kPath:
                out_.name_ = exec.path();
                out_.candidate_strings_.push_back(exec.path());
                break;
            case v1::ExecTarget::kSearch:
                out_.name_ = exec.search();
                if (exec.search().find('/') != std::string::npos)
                    return invalid("program", "a name to search holds no '/'");
                search(exec.search());
                break;
            default: return invalid("program", "the request names no program");
        }
        if (auto r = check_string("program", out_.name_, ipc::k_max_path - 1); !r) return r;
        // The kernel's answer for "" is ENOENT: a name that no file can have.
        for (const std::string& c : out_.candidate_strings_) out_.candidates_.push_back(c.c_str());
        out_.candidates_.push_back(nullptr);
        plan_.candidates = out_.candidates_.data();
        return {};
    }

    // In the *child's* PATH; an empty part of it is the working directory.
    void search(const std::string& name) {
        std::string_view path = k_default_path;
        for (char* const* e = plan_.envp; *e != nullptr; ++e)
            if (name_of(*e) == "PATH") path = std::string_view(*e).substr(5);
        if (name.empty()) return;
        for (;;) {
            const std::size_t end = path.find(':');
            const std::string_view part = path.substr(0, end);
            std::string candidate(part);
            if (!candidate.empty()) candidate += '/';
            candidate += name;
            if (candidate.size() < ipc::k_max_path)
                out_.candidate_strings_.push_back(std::move(candidate));
            if (end == std::string_view::npos) return;
            path.remove_prefix(end + 1);
        }
    }

    result<void> directory() {
        if (request_.has_cwd_path()) {
            if (auto r = check_string("cwd", request_.cwd_path(), ipc::k_max_path - 1); !r)
                return r;
            plan_.cwd_path = request_.cwd_path().c_str();
            // A relative path starts from the session's directory.
            if (!request_.cwd_path().starts_with('/')) plan_.cwd_fd = out_.base_->cwd.get();
            return {};
        }
        if (request_.has_cwd_descriptor()) {
            auto fd = descriptor(request_.cwd_descriptor(), v1::DESCRIPTOR_PURPOSE_CWD, "cwd");
            if (!fd) return fd.error();
            plan_.cwd_fd = *fd;
            return {};
        }
        plan_.cwd_fd = out_.base_->cwd.get();
        return {};
    }

    result<void> map() {
        auto& moves = out_.moves_;
        std::set<int> targets;
        const auto add = [&](std::uint32_t reference, int target) -> result<void> {
            if (target < 0 || target > ipc::k_max_target)
                return invalid("descriptor " + std::to_string(target),
                               "a target is from 0 to 65535");
            if (!targets.insert(target).second)
                return invalid("descriptor " + std::to_string(target),
                               "two descriptors have this target");
            auto fd = descriptor(reference, v1::DESCRIPTOR_PURPOSE_CHILD, "descriptors");
            if (!fd) return fd.error();
            moves.push_back({*fd, target, false});
            return {};
        };
        for (const auto& m : request_.descriptors())
            if (auto r = add(m.source_descriptor(), m.target()); !r) return r;
        int listen_target = k_first_listen_target;
        for (const auto& l : request_.listen_descriptors())
            if (auto r = add(l.source_descriptor(), listen_target++); !r) return r;
        for (int target = 0; target <= 2; ++target)
            if (targets.insert(target).second) moves.push_back({self_.null_fd, target, false});
        for (descriptor_move& m : moves)
            m.collides = m.source != m.target && targets.contains(m.source);
        plan_.moves = moves.data();
        plan_.move_count = moves.size();
        plan_.highest_target = *targets.rbegin();
        return {};
    }

    result<void> groups_and_terminal() {
        switch (request_.process_group()) {
            case v1::PROCESS_GROUP_UNSPECIFIED:
            case v1::PROCESS_GROUP_NEW: break;
            case v1::PROCESS_GROUP_SESSION: plan_.new_session = true; break;
            case v1::PROCESS_GROUP_JOIN:
                if (request_.process_group_id() <= 0)
                    return invalid("process_group_id", "it is above 0");
                plan_.process_group = request_.process_group_id();
                break;
            default: return invalid("process_group", "unknown kind");
        }
        if (!request_.has_controlling_terminal()) return {};
        if (!plan_.new_session)
            return invalid("controlling_terminal", "it needs a new session for the child");
        const int target = request_.controlling_terminal();
        const bool mapped = std::any_of(out_.moves_.begin(), out_.moves_.end(),
                                        [&](const auto& m) { return m.target == target; });
        if (!mapped)
            return invalid("controlling_terminal", "no descriptor has this target in the child");
        plan_.controlling_terminal = target;
        return {};
    }

    result<void> scheduling() {
        if (request_.has_umask()) {
            if (request_.umask() > 0777) return invalid("umask", "it is at most 0777");
            plan_.umask = request_.umask();
            plan_.set_umask = plan_.umask != 022;  // what the forkserver itself has
        }
        if (request_.has_nice()) {
            if (request_.nice() < -20 || request_.nice() > 19)
                return invalid("nice", "it is from -20 to 19");
            plan_.set_nice = true;
            plan_.nice = request_.nice();
        }
        if (request_.has_oom_score_adj()) {
            if (request_.oom_score_adj() < -1000 || request_.oom_score_adj() > 1000)
                return invalid("oom_score_adj", "it is from -1000 to 1000");
            plan_.set_oom_score_adj = true;
            plan_.oom_score_adj = request_.oom_score_adj();
        }
        if (request_.has_scheduling()) {
            const auto& s = request_.scheduling();
            constexpr std::uint32_t k_most = SCHED_IDLE + 1;
            if (s.policy() == 0 || s.policy() > k_most)
                return invalid("scheduling", "unknown policy");
            if (s.priority() < 0 || s.priority() > 99)
                return invalid("scheduling", "a priority is from 0 to 99");
            plan_.set_scheduler = true;
            plan_.scheduler_policy = static_cast<int>(s.policy() - 1);
            plan_.scheduler_priority = s.priority();
        }
        return cpus();
    }

    result<void> cpus() {
        if (request_.cpus_size() == 0) return {};
        constexpr std::size_t k_bits = sizeof(cpu_set_t) * 8;
        out_.cpus_.resize(ipc::k_max_cpus / k_bits);
        std::size_t most = 0;
        for (const std::uint32_t cpu : request_.cpus()) {
            if (cpu >= ipc::k_max_cpus)
                return invalid("cpus", "a processor's number is below 8192");
            CPU_SET_S(cpu, out_.cpus_.size() * sizeof(cpu_set_t), out_.cpus_.data());
            most = std::max<std::size_t>(most, cpu);
        }
        plan_.cpus = out_.cpus_.data();
        plan_.cpus_size = (most / k_bits + 1) * sizeof(cpu_set_t);
        return {};
    }

    result<void> limits() {
        bool descriptors_limited = false;
        std::set<int> seen;
        for (const auto& l : request_.rlimits()) {
            if (l.resource() == 0 || l.resource() > RLIM_NLIMITS)
                return invalid("rlimits", "unknown resource");
            if (l.soft() > l.hard())
                return invalid("rlimits", "a soft limit is not above its hard one");
            const int resource = static_cast<int>(l.resource() - 1);
            if (!seen.insert(resource).second)
                return invalid("rlimits", "a resource is limited twice");
            descriptors_limited |= resource == RLIMIT_NOFILE;
            out_.limits_.push_back({resource, {l.soft(), l.hard()}});
        }
        if (self_.restore_descriptor_limit && !descriptors_limited)
            out_.limits_.push_back({RLIMIT_NOFILE, self_.descriptor_limit});
        plan_.limits = out_.limits_.data();
        plan_.limit_count = out_.limits_.size();
        return {};
    }

    result<void> credentials() {
        plan_.set_uid = request_.has_uid();
        plan_.uid = request_.uid();
        plan_.set_gid = request_.has_gid();
        plan_.gid = request_.gid();
        // -1 means "leave alone" to setresuid(2): it would not fail, and change nothing.
        if ((plan_.set_uid && plan_.uid == static_cast<uid_t>(-1)) ||
            (plan_.set_gid && plan_.gid == static_cast<gid_t>(-1)))
            return invalid("uid", "4294967295 is no user or group");
        if (request_.has_groups()) {
            const auto& g = request_.groups().gid();
            if (static_cast<std::size_t>(g.size()) > ipc::k_max_groups)
                return invalid("groups", "too many groups");
            out_.groups_.assign(g.begin(), g.end());
        }
        // Another user's child must not keep root's supplementary groups.
        plan_.set_groups = request_.has_groups() || (plan_.set_uid && self_.privileged);
        plan_.groups = out_.groups_.data();
        plan_.group_count = out_.groups_.size();
        plan_.no_new_privs = request_.no_new_privs();
        if (const int s = request_.parent_death_signal(); s != 0) {
            if (!is_signal(s)) return invalid("parent_death_signal", "no such signal");
            plan_.parent_death_signal = s;
            plan_.parent = self_.pid;
        }
        return {};
    }

    result<void> cgroup() {
        if (request_.has_cgroup_path()) {
            const std::string& path = request_.cgroup_path();
            if (auto r = check_string("cgroup", path, ipc::k_max_path - 1); !r) return r;
            if (!path.starts_with('/')) return invalid("cgroup", "the path is absolute");
            out_.cgroup_.reset(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
            if (!out_.cgroup_) return ipc::fail(step::cgroup, errno, path);
            plan_.cgroup_fd = out_.cgroup_.get();
        } else if (request_.has_cgroup_descriptor()) {
            auto fd =
                descriptor(request_.cgroup_descriptor(), v1::DESCRIPTOR_PURPOSE_CGROUP, "cgroup");
            if (!fd) return fd.error();
            plan_.cgroup_fd = *fd;
        }
        plan_.join_cgroup = plan_.cgroup_fd >= 0 && !self_.clone_into_cgroup;
        return {};
    }

    result<void> life() {
        const auto& l = request_.lifetime();
        if (l.signal() != 0 && !is_signal(l.signal())) return invalid("lifetime", "no such signal");
        if (l.has_grace_ms() && std::chrono::milliseconds(l.grace_ms()) > ipc::k_max_grace)
            return invalid("lifetime", "the grace is at most a day");
        if (l.target() > v1::SIGNAL_TARGET_CGROUP || l.target() < 0)
            return invalid("lifetime", "unknown target");
        if (l.target() == v1::SIGNAL_TARGET_GROUP &&
            request_.process_group() == v1::PROCESS_GROUP_JOIN)
            return invalid("lifetime",
                           "the target group needs a process group or session of the child's own");
        if (l.target() == v1::SIGNAL_TARGET_CGROUP && plan_.cgroup_fd < 0)
            return invalid("lifetime", "the target cgroup needs a cgroup");
        return {};
    }

    // Above every descriptor the child still needs.
    void bound() {
        int most =
            std::max({2, plan_.cwd_fd, plan_.program_fd, plan_.join_cgroup ? plan_.cgroup_fd : 0});
        for (const descriptor_move& m : out_.moves_) most = std::max(most, m.source);
        plan_.close_from = most + 1;
    }

    prepared& out_;
    plan& plan_;
    v1::SpawnRequest& request_;
    const std::vector<int>& purposes_;
    const environment_of_forkserver& self_;
};

result<std::unique_ptr<prepared>> prepare(std::unique_ptr<v1::SpawnRequest> request,
                                          const std::vector<int>& purposes,
                                          shared_descriptors descriptors,
                                          std::shared_ptr<const session_base> base,
                                          const environment_of_forkserver& self) {
    return planner::run(std::move(request), purposes, std::move(descriptors), std::move(base),
                        self);
}

std::string prepared::object_of(step s, int index) const {
    const auto at = static_cast<std::size_t>(index);
    switch (s) {
        case step::exec: return name_;
        case step::chdir:
            return request_->has_cwd_path() ? request_->cwd_path()
                                            : "descriptor of the working directory";
        case step::cgroup:
            return request_->has_cgroup_path() ? request_->cgroup_path()
                                               : "descriptor of the cgroup";
        case step::descriptors:
            return index >= 0 && at < moves_.size()
                       ? "descriptor " + std::to_string(moves_[at].target)
                       : "";
        case step::rlimit:
            return index >= 0 && at < limits_.size()
                       ? "resource " + std::to_string(limits_[at].resource)
                       : "";
        case step::process_group:
            return plan.process_group != 0 ? std::to_string(plan.process_group) : "";
        case step::controlling_terminal:
            return "descriptor " + std::to_string(plan.controlling_terminal);
        case step::nice: return std::to_string(plan.nice);
        case step::oom_score_adj: return std::to_string(plan.oom_score_adj);
        case step::uid: return std::to_string(plan.uid);
        case step::gid: return std::to_string(plan.gid);
        default: return {};
    }
}

unique_fd prepared::dup_cgroup() const {
    return plan.cgroup_fd >= 0 ? unique_fd(::fcntl(plan.cgroup_fd, F_DUPFD_CLOEXEC, 3))
                               : unique_fd();
}

std::string prepared::command() const {
    std::string text;
    for (const std::string& a : request_->exec().argv()) {
        if (!text.empty()) text += ' ';
        text += a.substr(0, k_command_shown);
        if (text.size() >= k_command_shown) break;
    }
    text.resize(std::min(text.size(), k_command_shown));
    return text;
}

}  // namespace cleanfork::spawn
