#include "ipc/wire/identity_message.hpp"

#include <algorithm>

namespace cleanfork::ipc {

namespace {

void add(v1::Conduct& out, std::size_t resource, const rlimit& l) {
    v1::Rlimit& w = *out.add_rlimits();
    w.set_resource(static_cast<std::uint32_t>(resource) + 1);
    w.set_soft(l.rlim_cur);
    w.set_hard(l.rlim_max);
}

void set_scheduling(v1::Conduct& out, const conduct& c) {
    out.mutable_scheduling()->set_policy(static_cast<std::uint32_t>(c.policy) + 1);
    out.mutable_scheduling()->set_priority(c.priority);
}

void to_wire(const id_triple& ids, v1::IdTriple& out) {
    out.set_real(ids.real);
    out.set_effective(ids.effective);
    out.set_saved(ids.saved);
}

id_triple from_wire(const v1::IdTriple& ids) { return {ids.real(), ids.effective(), ids.saved()}; }

}  // namespace

void to_wire(const rights& r, v1::Rights& out) {
    to_wire(r.user, *out.mutable_user());
    to_wire(r.group, *out.mutable_group());
    out.mutable_groups()->mutable_gid()->Assign(r.groups.begin(), r.groups.end());
    out.set_effective(r.capabilities.effective);
    out.set_permitted(r.capabilities.permitted);
    out.set_inheritable(r.capabilities.inheritable);
    out.set_bounding(r.capabilities.bounding);
    out.set_ambient(r.capabilities.ambient);
    out.set_securebits(r.securebits);
    out.set_no_new_privs(r.no_new_privs);
}

rights from_wire(const v1::Rights& r) {
    return {.user = from_wire(r.user()),
            .group = from_wire(r.group()),
            .groups = {r.groups().gid().begin(), r.groups().gid().end()},
            .capabilities = {.effective = r.effective(),
                             .permitted = r.permitted(),
                             .inheritable = r.inheritable(),
                             .bounding = r.bounding(),
                             .ambient = r.ambient()},
            .securebits = r.securebits(),
            .no_new_privs = r.no_new_privs()};
}

void to_wire(const place& p, v1::Place& out) {
    out.set_root_device(p.root_device);
    out.set_root_inode(p.root_inode);
    out.set_root_mount(p.root_mount);
    out.mutable_namespaces()->Assign(p.namespaces.begin(), p.namespaces.end());
    out.set_seccomp_mode(p.seccomp_mode);
    out.set_seccomp_filters(p.seccomp_filters);
}

place from_wire(const v1::Place& p) {
    place out{.root_device = p.root_device(),
              .root_inode = p.root_inode(),
              .root_mount = p.root_mount(),
              .seccomp_mode = p.seccomp_mode(),
              .seccomp_filters = p.seccomp_filters()};
    const auto told =
        std::min(out.namespaces.size(), static_cast<std::size_t>(p.namespaces_size()));
    std::copy_n(p.namespaces().begin(), told, out.namespaces.begin());
    return out;
}

void to_wire(const conduct& c, v1::Conduct& out) {
    out.set_nice(c.nice);
    set_scheduling(out, c);
    if (c.oom_score_adj) out.set_oom_score_adj(*c.oom_score_adj);
    out.set_cpus(c.cpus);
    for (std::size_t i = 0; i < c.limits.size(); ++i) add(out, i, c.limits[i]);
}

bool differences_to_wire(const conduct& c, const conduct& known, v1::Conduct& out) {
    bool any = false;
    const auto note = [&any](bool differs) { return any = any || differs, differs; };
    if (note(c.nice != known.nice)) out.set_nice(c.nice);
    if (note(c.policy != known.policy || c.priority != known.priority)) set_scheduling(out, c);
    if (note(c.oom_score_adj && c.oom_score_adj != known.oom_score_adj))
        out.set_oom_score_adj(*c.oom_score_adj);
    if (note(c.cpus != known.cpus)) out.set_cpus(c.cpus);
    for (std::size_t i = 0; i < c.limits.size(); ++i)
        if (note(c.limits[i].rlim_cur != known.limits[i].rlim_cur ||
                 c.limits[i].rlim_max != known.limits[i].rlim_max))
            add(out, i, c.limits[i]);
    return any;
}

conduct from_wire(const v1::Conduct& c) {
    conduct out{.nice = c.nice(),
                .policy = static_cast<int>(c.scheduling().policy()) - 1,
                .priority = c.scheduling().priority(),
                .oom_score_adj = {},
                .cpus = c.cpus()};
    if (c.has_oom_score_adj()) out.oom_score_adj = c.oom_score_adj();
    for (const v1::Rlimit& l : c.rlimits())
        if (l.resource() > 0 && l.resource() <= out.limits.size())
            out.limits[l.resource() - 1] = {l.soft(), l.hard()};
    return out;
}

}  // namespace cleanfork::ipc
