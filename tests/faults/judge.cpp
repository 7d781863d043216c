#include "tests/faults/judge.hpp"

#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "tests/faults/calls.hpp"

namespace cleanfork::faults {

namespace {

// Of such a failure nobody can know whether what was asked for has begun: the answer was lost.
bool is_open(step s) {
    return s == step::connect || s == step::protocol || s == step::hello || s == step::launch;
}

// The client is told that its forkserver, its template or its child has gone.
bool is_loss(const told_step& s) {
    const auto where = static_cast<step>(s.step);
    const bool is_gone = where == step::signal && s.error_number == ESRCH;
    return is_gone || where == step::connect || where == step::fork || where == step::child_start ||
           where == step::template_start || where == step::launch || where == step::audit;
}

std::string judge_failure(const told_step& s, const evidence& e) {
    const auto where = static_cast<step>(s.step);
    const auto times = std::count(e.ran.begin(), e.ran.end(), s.tag);
    const bool may_run = std::string_view(s.text).find("may have begun") != std::string_view::npos;
    if (s.tag != 0 && times > 0 && !is_open(where) && !may_run)
        return std::string(s.name) + " is told as failed (" + s.text + "), but it ran";
    if (may_run) return {};
    if (where == step::none) return std::string(s.name) + " has failed without a step";
    if (std::string_view(s.name) == "no program" && s.error_number == ENOENT) return {};
    if (s.error_number == e.injected.error_number && s.error_number != 0) return {};
    if (e.injected.error_number == 0 && is_loss(s)) return {};
    return std::string(s.name) + ": the errno is another: " + s.text;
}

std::string judge_status(const told_step& s, const evidence& e) {
    const std::string_view status = s.status;
    if (status.empty() || status == std::string_view(s.expected)) return {};
    const role who = e.injected.at.who;
    const bool is_childs = who == role::child || who == role::template_child;
    if (e.injected.error_number == 0 && is_childs && status == "killed by SIGKILL") return {};
    // Better no session than one that waits for ever for what could not be told.
    if (e.injected.at.call == k_allocation && status == "killed by SIGTERM") return {};
    // It may not be signalled, so that its grace ends it.
    if (e.injected.at.call == SYS_pidfd_send_signal && status == "killed by SIGKILL") return {};
    // The kernel is asked in vain once there is no forkserver any more.
    if (who == role::client && e.injected.at.call == SYS_ioctl && status.starts_with("unknown: "))
        return {};
    // The program of the test itself could not write.
    const bool is_its_own = who == role::template_child && e.injected.at.call == SYS_write;
    if (is_its_own && (status == "exited 97" || status == "exited 70")) return {};
    const bool not_reaped = e.injected.at.call == SYS_waitid && e.injected.error_number == ECHILD;
    if (not_reaped && status.starts_with("unknown: ") &&
        status.find("waitid") != std::string_view::npos)
        return {};
    return std::string(s.name) + ": " + s.status + ", not " + s.expected;
}

}  // namespace

std::string judge(const story& s, const evidence& e) {
    if (s.wrong[0] != '\0') return s.wrong;
    for (int i = 0; i < s.count; ++i) {
        const told_step& each = s.steps.at(static_cast<std::size_t>(i));
        const auto times = std::count(e.ran.begin(), e.ran.end(), each.tag);
        if (each.tag != 0 && times > 1)
            return std::string(each.name) + " has run " + std::to_string(times) + " times";
        if (std::string wrong = each.failed ? judge_failure(each, e) : judge_status(each, e);
            !wrong.empty())
            return wrong;
    }
    if (s.is_over && s.descriptors_after != s.descriptors_before)
        return "descriptors of the client: " + std::to_string(s.descriptors_after) + ", not " +
               std::to_string(s.descriptors_before);
    return {};
}

std::string in_short(const story& s) {
    std::string all;
    for (int i = 0; i < s.count; ++i) {
        const told_step& each = s.steps.at(static_cast<std::size_t>(i));
        if (std::string_view(each.name) == "no program") continue;
        if (each.failed)
            all += std::string("; ") + each.name + ": " + each.text;
        else if (std::string_view(each.status) != each.expected)
            all += std::string("; ") + each.name + ": " + each.status;
    }
    return all.empty() ? "as without" : all.substr(2);
}

std::string judge_command(const path& p, const command_result& r, const evidence& e) {
    if (WIFSIGNALED(r.wait_status)) {
        if (e.injected.error_number == 0 && e.injected.at.who == role::command) return {};
        return "the command " + ipc::ended_how(r.wait_status);
    }
    const int code = WEXITSTATUS(r.wait_status);
    if (code == p.code) {
        if (p.output != "?" && r.out != p.output && e.injected.at.who != role::child)
            return "the command ends as if all were well, and has written: " + r.out;
        return {};
    }
    if (e.injected.error_number == EPIPE && e.injected.at.call == SYS_write) return {};
    const auto line = r.err.find("cleanfork: ");
    if (line == std::string::npos)
        return "the command exits with " + std::to_string(code) + " and does not say why: " + r.err;
    const std::string name = name_of_errno(e.injected.error_number);
    if (e.injected.error_number != 0 && r.err.find(name) == std::string::npos)
        return "the command does not name " + name + ": " + r.err;
    return {};
}

std::string in_short(const path& p, const command_result& r) {
    std::string text = WEXITSTATUS(r.wait_status) == p.code && !WIFSIGNALED(r.wait_status)
                           ? "as without"
                           : ipc::ended_how(r.wait_status);
    if (!r.err.empty()) text += "; " + r.err;
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

}  // namespace cleanfork::faults
