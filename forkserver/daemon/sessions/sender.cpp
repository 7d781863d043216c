#include "forkserver/daemon/sessions/sender.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cleanfork/unique_fd.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/identity_message.hpp"

namespace cleanfork::daemon {

namespace {

failure refused(const ipc::packet_sender& s, const char* why) {
    return ipc::fail(step::identity, EPERM, "sender of uid " + std::to_string(s.uid), why);
}

// What /proc tells of the sender: of the first of its threads, which may differ, that is that user.
class sender_state {
public:
    explicit sender_state(const ipc::packet_sender& s) {
        if (s.pid <= 0) return;
        look_at("/proc/" + std::to_string(s.pid), s.pid);
        if (is(s)) return;
        const std::string threads = "/proc/" + std::to_string(s.pid) + "/task";
        const unique_fd directory(::open(threads.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!directory) return;
        ipc::each_number(directory.get(), [&](const char* name, int thread) {
            if (!is(s)) look_at(threads + "/" + name, thread);
        });
    }

    // Another process may have its number by now: then with another user.
    [[nodiscard]] bool is(const ipc::packet_sender& s) const {
        const auto users = numbers("Uid:\t");
        return !users.empty() && users.front() == s.uid;
    }
    [[nodiscard]] bool covers(const ipc::rights& r) const {
        const auto users = numbers("Uid:\t");
        auto groups = numbers("Gid:\t");
        if (!holds(users, r.user) || !holds(groups, r.group)) return false;
        const auto others = numbers("Groups:\t");
        groups.insert(groups.end(), others.begin(), others.end());
        const bool all_groups =
            std::all_of(r.groups.begin(), r.groups.end(), [&](gid_t g) { return in(groups, g); });
        const ipc::capability_sets& c = r.capabilities;
        return all_groups && within(c.permitted, "CapPrm:\t") && within(c.effective, "CapPrm:\t") &&
               within(c.inheritable, "CapInh:\t") && within(c.bounding, "CapBnd:\t") &&
               within(c.ambient, "CapAmb:\t") &&
               (r.no_new_privs || ipc::field(status_, "NoNewPrivs:\t") != "1");
    }
    [[nodiscard]] bool covers(const v1::Conduct& c) const {
        if (c.has_nice() && c.nice() < ::getpriority(PRIO_PROCESS, static_cast<id_t>(thread_)))
            return false;
        const auto oom = ipc::read_file(AT_FDCWD, directory_ + "/oom_score_adj");
        if (c.has_oom_score_adj() && (!oom || c.oom_score_adj() < ipc::to_number(*oom)))
            return false;
        if (c.scheduling().priority() != 0 && ::sched_getscheduler(thread_) <= SCHED_OTHER)
            return false;
        return std::all_of(c.rlimits().begin(), c.rlimits().end(), [this](const v1::Rlimit& l) {
            rlimit now{};
            return l.resource() > 0 &&
                   ::prlimit(thread_, static_cast<__rlimit_resource>(l.resource() - 1), nullptr,
                             &now) == 0 &&
                   l.hard() <= now.rlim_max;
        });
    }

private:
    using ids = std::vector<std::uint32_t>;

    void look_at(const std::string& directory, pid_t thread) {
        directory_ = directory;
        thread_ = thread;
        status_ = ipc::read_file(AT_FDCWD, directory + "/status").value_or("");
    }
    [[nodiscard]] ids numbers(const char* key) const {
        std::istringstream text{std::string(ipc::field(status_, key))};
        ids all;
        for (std::uint32_t id = 0; text >> id;) all.push_back(id);
        return all;
    }
    static bool in(const ids& all, std::uint32_t id) {
        return std::find(all.begin(), all.end(), id) != all.end();
    }
    static bool holds(const ids& all, const ipc::id_triple& t) {
        return in(all, t.real) && in(all, t.effective) && in(all, t.saved);
    }
    [[nodiscard]] bool within(std::uint64_t set, const char* key) const {
        return (set & ~ipc::to_number<std::uint64_t>(ipc::field(status_, key), 16)) == 0;
    }

    std::string directory_;
    pid_t thread_ = 0;
    std::string status_;
};

constexpr const char* k_no_more =
    "it asks for more than it has: this program has given up rights since it began its session, "
    "or was handed that (launch_options::lends_rights)";

failure beyond(const ipc::packet_sender& s, const v1::Caller& caller, bool as_forkserver) {
    if (as_forkserver || !caller.has_rights()) return refused(s, k_no_more);
    const sender_state now(s);
    if (!now.is(s)) return refused(s, "nothing is known of it: it has ended, or there is no /proc");
    if (!now.covers(ipc::from_wire(caller.rights())) || !now.covers(caller.conduct()))
        return refused(s, k_no_more);
    return {};
}

failure beyond(const ipc::packet_sender& s, const v1::SpawnRequest& r) {
    return beyond(s, r.caller(), r.as_forkserver());
}

}  // namespace

// Root has no less than any forkserver: its requests are as those of the forkserver's own user.
bool is_another_user(const ipc::packet_sender& s) noexcept {
    static const uid_t own = ::getuid();  // which never changes
    return s.uid != own && s.uid != 0;
}

failure beyond_sender(const ipc::packet_sender& s, const v1::ClientMessage& m) {
    switch (m.body_case()) {
        case v1::ClientMessage::kSpawn: return beyond(s, m.spawn());
        case v1::ClientMessage::kAddTemplate: return beyond(s, m.add_template().process());
        case v1::ClientMessage::kReloadTemplate:
            return beyond(s, m.reload_template().caller(), m.reload_template().as_forkserver());
        case v1::ClientMessage::kBatch:
            for (const v1::SpawnRequest& item : m.batch().items())
                if (failure f = beyond(s, item); f.step != step::none) return f;
            return {};
        case v1::ClientMessage::kShutdown:
            return refused(s, "the forkserver is another user's: he alone ends it");
        default: return {};
    }
}

}  // namespace cleanfork::daemon
