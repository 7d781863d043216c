#include "forkserver/daemon/templates/template_proof.hpp"

#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <csignal>

#include "ipc/audit/audit.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// False when there were none.
bool erase_threads(ipc::audit_report& report) {
    return std::erase_if(report.findings,
                         [](const ipc::finding& f) { return f.kind == ipc::hazard::thread; }) != 0;
}

}  // namespace

result<void> template_proof::begin(pid_t pid, const v1::TemplateReady& told) {
    declared_ = spec_->allowed_descriptors;
    declared_.insert(declared_.end(), told.own_descriptors().begin(), told.own_descriptors().end());
    ends_threads_ = told.ends_threads();
    auto unclean = judge(pid);
    if (!unclean) return unclean.error();
    unclean_ = std::move(*unclean);
    if (unclean_.empty() || spec_->tolerate_unclean) return {};
    return ipc::fail(step::clean, 0, spec_->name, unclean_);
}

result<std::string> template_proof::judge(pid_t pid) {
    // In a chroot or a sandbox. What nobody can look at is not proved clean.
    if (::access("/proc/self/status", F_OK) != 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return ipc::fail(step::template_start, errno, "/proc/self/status");
        return std::string("no /proc to see its threads and descriptors in");
    }
    auto proof = ipc::clean_proof::open(pid);
    if (!proof) return proof.error();
    proof_.emplace(std::move(*proof));
    ipc::audit_options options;
    options.allowed_descriptors = declared_;
    auto report = ipc::audit(pid, options);
    if (!report) return report.error();
    if (ends_threads_) erase_threads(*report);
    return report->safe() ? std::string() : ipc::summary(*report);
}

result<fork_facts> template_proof::check() const {
    if (spec_->tolerate_unclean) return fork_facts{};
    assert(proof_);
    using threads = ipc::clean_proof::threads;
    auto report =
        proof_->check(declared_, passing_, ends_threads_ ? threads::counted : threads::described);
    if (!report)
        return ipc::fail(step::fork, report.error().error_number, spec_->name,
                         "the template could not be looked at: " + report.error().message());
    // Its children end at any time; the loop is about to read that.
    std::erase_if(report->findings, [](const ipc::finding& f) {
        return f.kind == ipc::hazard::pending_signal && f.number == SIGCHLD;
    });
    const bool has_threads = ends_threads_ && erase_threads(*report);
    if (report->safe()) return fork_facts{has_threads, report->changed_signals};
    return ipc::fail(step::clean, 0, spec_->name, ipc::summary(*report));
}

void template_proof::add_passing(ino_t channel) noexcept {
    if (passing_[(next_passing_ - 1) % passing_.size()] != channel)
        passing_[next_passing_++ % passing_.size()] = channel;
}

std::optional<std::size_t> template_proof::threads() const {
    if (!proof_) return std::nullopt;
    const auto counts = proof_->counts();
    return counts ? std::optional(counts->threads) : std::nullopt;
}

}  // namespace cleanfork::daemon
