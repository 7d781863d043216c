#include "forkserver/daemon/templates/template_spec.hpp"

#include <algorithm>
#include <cerrno>

#include "ipc/base/sys.hpp"
#include "ipc/wire/defaults.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::daemon {

namespace {

using std::chrono::milliseconds;

milliseconds or_default(std::uint32_t ms, milliseconds d) { return ms != 0 ? milliseconds(ms) : d; }

result<void> check(const v1::AddTemplateRequest& r) {
    if (r.name().empty() || r.name().size() > ipc::k_max_name ||
        std::any_of(r.name().begin(), r.name().end(),
                    [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 127; }))
        return ipc::fail(step::template_name, EINVAL, r.name(),
                         "a name has 1 to 255 characters, no blank or control character");
    if (r.warm() > ipc::k_max_warm)
        return ipc::fail(step::request, E2BIG, "warm",
                         "at most " + std::to_string(ipc::k_max_warm) + " warm children");
    if (r.leases() > ipc::k_max_warm)
        return ipc::fail(step::request, E2BIG, "leases",
                         "at most " + std::to_string(ipc::k_max_warm) + " leased children");
    const bool derived = !r.from().empty();
    if (derived ? !r.process().has_call() : !r.process().has_exec())
        return ipc::fail(step::request, EINVAL, "process",
                         derived ? "a derived template is made by an initializer of its base"
                                 : "a template is made by a program");
    if (derived && r.from() == r.name())
        return ipc::fail(step::template_name, EINVAL, r.name(), "it cannot be derived from itself");
    return {};
}

}  // namespace

result<shared_spec> spec_of(v1::AddTemplateRequest& r, std::vector<int> purposes,
                            spawn::shared_descriptors descriptors,
                            std::shared_ptr<const spawn::session_base> base, session_id session) {
    if (auto checked = check(r); !checked) return checked.error();
    auto spec = std::make_shared<template_spec>();
    spec->name = r.name();
    spec->from = r.from();
    spec->purposes = std::move(purposes);
    spec->descriptors = std::move(descriptors);
    spec->base = std::move(base);
    spec->warm = r.warm();
    spec->leases = r.has_leases() ? r.leases() : r.warm();
    spec->start_timeout = or_default(r.start_timeout_ms(), ipc::k_default_start_timeout);
    spec->call_timeout = or_default(r.call_timeout_ms(), ipc::k_default_call_timeout);
    spec->allowed_descriptors.assign(r.allowed_descriptors().begin(),
                                     r.allowed_descriptors().end());
    spec->tolerate_unclean = r.tolerate_unclean();
    if (r.ends_with_session()) spec->owner = session;
    spec->process.Swap(r.mutable_process());
    // A template's start has no reply to hold, and is no lease.
    spec->process.clear_reply_hold_us();
    if (spec->process.has_call()) spec->process.mutable_call()->clear_lease();
    return shared_spec(std::move(spec));
}

shared_spec early_spec(std::string name) {
    auto spec = std::make_shared<template_spec>();
    spec->name = std::move(name);
    spec->start_timeout = ipc::k_default_start_timeout;
    spec->call_timeout = ipc::k_default_call_timeout;
    spec->early = true;
    return spec;
}

}  // namespace cleanfork::daemon
