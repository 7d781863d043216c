// What is to be run, with which arguments, in which environment.
#include <algorithm>
#include <unordered_map>

#include "forkserver/spawn/planner.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::spawn {

namespace {

// What execvp(3) searches when the environment has no PATH (confstr _CS_PATH).
constexpr std::string_view k_default_path = "/bin:/usr/bin";
constexpr std::string_view k_listen_pid = "LISTEN_PID=";

}  // namespace

result<void> planner::target() {
    if (request_.has_exec()) return arguments();
    if (request_.has_call()) return call();
    return invalid("target", "the request names no program and no entry");
}

// The template and the entry are looked up by others; here is what must hold for any.
result<void> planner::call() {
    const v1::CallTarget& c = request_.call();
    if (c.entry().size() > ipc::k_max_name)
        return ipc::fail(step::request, E2BIG, "entry",
                         "its name is longer than " + std::to_string(ipc::k_max_name) + " bytes");
    if (static_cast<std::size_t>(c.arguments_size()) > ipc::k_max_call_arguments)
        return ipc::fail(step::request, E2BIG, "arguments", "too many arguments");
    for (const std::string& a : c.arguments())
        if (a.size() > ipc::k_max_string)
            return ipc::fail(step::request, E2BIG, "arguments",
                             "one is longer than " + std::to_string(ipc::k_max_string) + " bytes");
    if (c.has_payload_descriptor()) {
        auto fd = descriptor(c.payload_descriptor(), v1::DESCRIPTOR_PURPOSE_PAYLOAD, "payload");
        if (!fd) return fd.error();
        out_.payload_fd_ = *fd;
    }
    if (c.result_descriptor() != 0) {
        auto fd = descriptor(c.result_descriptor(), v1::DESCRIPTOR_PURPOSE_CHILD, "result");
        if (!fd) return fd.error();
        out_.result_fd_ = *fd;
    }
    if (c.answer_descriptor() != 0) {
        auto fd = descriptor(c.answer_descriptor(), v1::DESCRIPTOR_PURPOSE_CHILD, "answer");
        if (!fd) return fd.error();
        out_.answer_fd_ = *fd;
    }
    std::set<std::string_view> names;
    for (const auto& m : request_.descriptors())
        if (m.name().size() > ipc::k_max_name ||
            (!m.name().empty() && !names.insert(m.name()).second))
            return invalid("descriptors", "a name is too long, or given twice");
    return {};
}

result<void> planner::arguments() {
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

result<void> planner::environment() {
    const bool plain = !request_.has_environment() && request_.listen_descriptors_size() == 0;
    if (plain) {
        plan_.envp = const_cast<char* const*>(out_.base_->environment.pointers.data());
        return {};
    }
    auto& wanted = *request_.mutable_environment();
    if (static_cast<std::size_t>(wanted.set_size() + wanted.unset_size()) > ipc::k_max_environment)
        return ipc::fail(step::request, E2BIG, "environment", "too many variables");
    std::set<std::string_view> replaced;
    for (const std::string& name : wanted.unset()) {
        if (name.empty() || has_nul(name) || name.find('=') != std::string::npos)
            return invalid("environment", "a name to unset is not empty and holds no '=' or NUL");
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
result<void> planner::activation(std::set<std::string_view>& replaced) {
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

result<void> planner::program() {
    if (request_.has_call()) return {};
    const auto& exec = request_.exec();
    switch (exec.program_case()) {
        case v1::ExecTarget::kProgramDescriptor: {
            auto fd =
                descriptor(exec.program_descriptor(), v1::DESCRIPTOR_PURPOSE_EXECUTABLE, "program");
            if (!fd) return fd.error();
            if (!self_.execveat)
                return ipc::fail(step::exec, ENOSYS, "descriptor of the program",
                                 "this kernel has no execveat(2): give a path");
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
void planner::search(const std::string& name) {
    std::string_view path = k_default_path;
    // Of two, the first, as getenv(3) has it.
    for (char* const* e = plan_.envp; *e != nullptr; ++e)
        if (name_of(*e) == "PATH") {
            path = std::string_view(*e).substr(5);
            break;
        }
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

}  // namespace cleanfork::spawn
