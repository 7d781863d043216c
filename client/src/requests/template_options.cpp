#include "client/src/requests/template_options.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cstdlib>

#include "client/src/connection/convert.hpp"
#include "client/src/requests/entry_call.hpp"
#include "client/src/requests/translate.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/base/typed_values.hpp"
#include "ipc/wire/defaults.hpp"

namespace cleanfork::detail {

namespace {

// What <cleanfork/templates.hpp> says of a timeout of 0.
static_assert(ipc::k_default_start_timeout == std::chrono::minutes(1));
static_assert(ipc::k_default_call_timeout == std::chrono::seconds(10));

failure refused(std::string field, std::string why) {
    return ipc::fail(step::request, EINVAL, std::move(field), std::move(why));
}

bool names_program(const spawn_options& o) {
    const auto* path = std::get_if<std::string>(&o.program);
    return path == nullptr || !path->empty();
}

result<void> check(const template_options& o) {
    for (const stdio_option* stream : {&o.process.in, &o.process.out, &o.process.err}) {
        if (std::holds_alternative<stdio::pipe>(*stream))
            return refused("stdio::pipe", "a template has no owner who could hold the other end");
        if (std::holds_alternative<stdio::pty>(*stream))
            return refused("stdio::pty", "a template has no owner who could hold the other end");
        if (std::holds_alternative<stdio::rotated_file>(*stream))
            return refused("stdio::rotated_file", "it is for children, not for templates");
    }
    if (o.process.restart.on != restart_options::policy::no)
        return refused("restart", "a template is started again in any case");
    const bool derived = !o.from.empty();
    if (o.own_program && (derived || names_program(o.process)))
        return refused("own_program", "the template is something else as well");
    if (derived && o.huge_pages)
        return refused("huge_pages", "a derived template has the heap of its base");
    if (!derived && !o.own_program && !names_program(o.process))
        return refused("program", "a template is a program, or derived from another template");
    if (!derived && !o.initializer.empty())
        return refused("initializer", "only a derived template has one: from names its base");
    if (derived && o.initializer.empty())
        return refused("initializer", "a derived template needs an entry of its base to run");
    return {};
}

result<void> translate_derived(const template_options& o, v1::SpawnRequest& request,
                               descriptor_list& descriptors, parent_ends& ends) {
    const call_options call{
        .args = o.initializer_args, .fds = o.initializer_fds, .attributes = o.process};
    const payload content =
        std::visit([](const auto& p) { return payload(p); }, o.initializer_payload);
    return translate_call({o.from, o.initializer, content, call}, request, descriptors, ends);
}

result<void> translate_program(const template_options& o, v1::SpawnRequest& request,
                               descriptor_list& descriptors, parent_ends& ends) {
    spawn_options process = o.process;
    if (o.huge_pages) request_huge_pages(process.env);
    unique_fd own;
    if (o.own_program) {
        own.reset(::open("/proc/self/exe", O_PATH | O_CLOEXEC));
        if (!own) return ipc::fail(step::request, errno, "/proc/self/exe");
        process.program = own.get();
    }
    if (auto r = translate(process, request, descriptors, ends); !r) return r;
    // Borrowed until it is sent: the list keeps it.
    if (own) descriptors.keep(std::move(own));
    return {};
}

}  // namespace

void request_huge_pages(environment& env) {
    const std::string name(ipc::k_tunables);
    std::string all;
    if (const auto set = env.set.find(name); set != env.set.end()) {
        all = set->second;
    } else if (!env.clear &&
               std::find(env.unset.begin(), env.unset.end(), name) == env.unset.end()) {
        const char* const own = ::getenv(name.c_str());
        all = own != nullptr ? own : "";
    }
    env.set[name] = ipc::with_huge_pages(all);
}

result<void> translate_template(std::string_view name, const template_options& o,
                                v1::AddTemplateRequest& request, descriptor_list& descriptors) {
    if (auto r = check(o); !r) return r;
    request.set_name(name.data(), name.size());
    request.set_from(o.from);
    request.set_warm(o.warm);
    if (o.leases) request.set_leases(*o.leases);
    request.set_start_timeout_ms(to_wire(o.start_timeout));
    request.set_call_timeout_ms(to_wire(o.call_timeout));
    request.set_no_wait(!o.wait);
    for (const int fd : o.allowed_descriptors) request.add_allowed_descriptors(fd);
    request.set_tolerate_unclean(o.tolerate_unclean);
    request.set_ends_with_session(o.ends_with_session);
    request.set_unless_there(o.unless_there);
    parent_ends none;
    v1::SpawnRequest& process = *request.mutable_process();
    return o.from.empty() ? translate_program(o, process, descriptors, none)
                          : translate_derived(o, process, descriptors, none);
}

}  // namespace cleanfork::detail
