// What a good request becomes, and what makes a request bad.
#include <sys/resource.h>

#include <algorithm>
#include <climits>
#include <csignal>
#include <cstring>

#include "ipc/wire/limits.hpp"
#include "tests/unit/spawn/spawn_request.hpp"

using namespace cleanfork;
using namespace cleanfork::spawn;

namespace {

std::vector<std::string> strings(char* const* from) {
    std::vector<std::string> all;
    for (; *from != nullptr; ++from) all.emplace_back(*from);
    return all;
}

std::vector<std::string> candidates(const plan& p) {
    std::vector<std::string> all;
    for (const char* const* c = p.candidates; *c != nullptr; ++c) all.emplace_back(*c);
    return all;
}

// `change` makes a good request bad, in the part that the failure names.
template <class Change>
void check_refused(const char* object, Change&& change, int error_number = EINVAL) {
    spawn_request r;
    change(r);
    const failure f = refused(std::move(r));
    INFO(f.message());
    CHECK(f.step == step::request);
    CHECK(f.error_number == error_number);
    CHECK(f.object == object);
    CHECK_FALSE(f.detail.empty());
}

}  // namespace

TEST_CASE("a plain request is a plain plan: base environment, base directory, null streams") {
    const auto base = make_base({"A=1", "no assignment", "B="});
    parent_facts self;
    self.null_fd = 77;
    const auto p = planned(spawn_request{"/bin/true", "x", ""}, base, self);
    CHECK(strings(p->plan.argv) == std::vector<std::string>{"/bin/true", "x", ""});
    // Not copied: a session's spawns share it.
    CHECK(static_cast<const void*>(p->plan.envp) == base->environment.pointers.data());
    CHECK(candidates(p->plan) == std::vector<std::string>{"/bin/true"});
    CHECK(p->plan.cwd_fd == base->cwd.get());
    CHECK(p->plan.cwd_path == nullptr);
    CHECK(p->plan.program_fd == -1);
    REQUIRE(p->plan.move_count == 3);
    for (int i = 0; i < 3; ++i) {
        CHECK(p->plan.moves[i].source == 77);
        CHECK(p->plan.moves[i].target == i);
        CHECK_FALSE(p->plan.moves[i].collides);
    }
    CHECK(p->plan.highest_target == 2);
    CHECK(p->plan.close_from == 78);
    CHECK(p->plan.set_process_group);
    CHECK_FALSE(p->plan.new_session);
    CHECK_FALSE(p->plan.set_umask);
    CHECK(p->plan.limit_count == 0);
    CHECK(command_of(p->request()) == "/bin/true x ");
}

TEST_CASE("the environment is base, less what is unset, with what is set") {
    spawn_request r;
    auto& env = *r.body.mutable_environment();
    env.add_unset("GONE");
    env.add_unset("NEVER");
    env.add_set("B=new");
    env.add_set("C=a=b");
    const auto p =
        planned(std::move(r), make_base({"A=1", "B=old", "GONE=x", "GONER=y", "B=again"}));
    CHECK(strings(p->plan.envp) == std::vector<std::string>{"A=1", "GONER=y", "B=new", "C=a=b"});

    spawn_request cleared;
    cleared.body.mutable_environment()->set_clear(true);
    CHECK(strings(planned(std::move(cleared), make_base({"A=1"}))->plan.envp).empty());
}

TEST_CASE("a variable that is set twice is refused, not resolved") {
    check_refused("environment", [](spawn_request& r) {
        r.body.mutable_environment()->add_set("A=1");
        r.body.mutable_environment()->add_set("A=1");
    });
}

TEST_CASE("entries of the environment that are no assignments are refused") {
    for (const std::string& bad : {std::string(), std::string("A"), std::string("=1"),
                                   std::string("A=1\0B", 5), std::string("A\0=1", 4)})
        check_refused("environment",
                      [&](spawn_request& r) { r.body.mutable_environment()->add_set(bad); });
    for (const std::string& bad : {std::string(), std::string("A=1"), std::string("A\0", 2)})
        check_refused("environment",
                      [&](spawn_request& r) { r.body.mutable_environment()->add_unset(bad); });
    CHECK(is_assignment("A="));
    CHECK(is_assignment("A=="));
}

TEST_CASE("a search gives one candidate for each directory of the child's PATH, in order") {
    const auto found = [](const char* name, std::vector<std::string> environment) {
        spawn_request r{name};
        r.body.mutable_exec()->set_search(name);
        return candidates(planned(std::move(r), make_base(std::move(environment)))->plan);
    };
    using list = std::vector<std::string>;
    CHECK(found("sh", {"PATH=/a:/b/"}) == list{"/a/sh", "/b//sh"});
    CHECK(found("sh", {"PATH="}) == list{"sh"});
    CHECK(found("sh", {"PATH=:/a:"}) == list{"sh", "/a/sh", "sh"});
    CHECK(found("sh", {"PATHS=/a"}) == list{"/bin/sh", "/usr/bin/sh"});
    CHECK(found("", {"PATH=/a"}).empty());
    // As getenv(3) in a program that has two.
    CHECK(found("sh", {"PATH=/a", "PATH=/b"}) == list{"/a/sh"});
    // A directory that makes the name too long is passed over.
    CHECK(found("sh", {"PATH=/" + std::string(PATH_MAX, 'x') + ":/a"}) == list{"/a/sh"});
}

TEST_CASE("the program must be named, and in one way") {
    check_refused("target", [](spawn_request& r) { r.body.clear_exec(); });
    check_refused("argv", [](spawn_request& r) { r.body.mutable_exec()->clear_argv(); });
    check_refused("program", [](spawn_request& r) { r.body.mutable_exec()->clear_program(); });
    check_refused("program", [](spawn_request& r) { r.body.mutable_exec()->set_search("a/b"); });
    check_refused("program",
                  [](spawn_request& r) { r.body.mutable_exec()->set_program_descriptor(1); });
    check_refused(
        "program",
        [](spawn_request& r) {
            r.body.mutable_exec()->set_path("/" + std::string(ipc::k_max_path - 1, 'x'));
        },
        E2BIG);
}

TEST_CASE("a program by descriptor is refused where execveat is missing or forced off") {
    parent_facts self;
    self.execveat = false;
    spawn_request r;
    r.body.mutable_exec()->set_program_descriptor(r.add_null(v1::DESCRIPTOR_PURPOSE_EXECUTABLE));
    const auto p = prepare(std::move(r), make_base(), self);
    REQUIRE(p.has_error());
    CHECK(p.error().step == step::exec);
    CHECK(p.error().error_number == ENOSYS);
}

TEST_CASE("a descriptor must have come with the request, for the purpose it is used for") {
    check_refused("descriptors", [](spawn_request& r) { r.map(0, 5); });
    check_refused("descriptors", [](spawn_request& r) { r.map(r.add_null() + 1, 5); });
    check_refused("descriptors",
                  [](spawn_request& r) { r.map(r.add_null(v1::DESCRIPTOR_PURPOSE_CWD), 5); });
    check_refused("cwd", [](spawn_request& r) { r.body.set_cwd_descriptor(r.add_null()); });
    check_refused("cgroup", [](spawn_request& r) { r.body.set_cgroup_descriptor(r.add_null()); });
    check_refused("program", [](spawn_request& r) {
        r.body.mutable_exec()->set_program_descriptor(r.add_null(v1::DESCRIPTOR_PURPOSE_CGROUP));
    });
    check_refused("descriptors", [](spawn_request& r) {
        auto& l = *r.body.add_listen_descriptors();
        l.set_source_descriptor(9);
        l.set_name("nine");
    });
}

TEST_CASE("a target is used once, and from 0 to the highest there may be") {
    check_refused("descriptor -1", [](spawn_request& r) { r.map(r.add_null(), -1); });
    check_refused("descriptor 65536",
                  [](spawn_request& r) { r.map(r.add_null(), ipc::k_max_target + 1); });
    check_refused("descriptor 4", [](spawn_request& r) {
        const auto fd = r.add_null();
        r.map(fd, 4);
        r.map(fd, 4);
    });
    spawn_request r;
    r.map(r.add_null(), ipc::k_max_target);
    CHECK(planned(std::move(r))->plan.highest_target == ipc::k_max_target);
}

TEST_CASE("a source is moved away only when its number is another's target") {
    spawn_request r;
    const auto a = r.add_null();
    const auto b = r.add_null();
    const int number_a = r.descriptors[0].get(), number_b = r.descriptors[1].get();
    r.map(a, number_b);         // b's number is taken ...
    r.map(b, number_b + 1000);  // ... so that b has to go
    r.map(a, number_a);         // stays, which does not disturb it
    const auto base = make_base();
    const auto p = planned(std::move(r), base);
    CHECK(p->plan.moves[0].collides);  // a's number is a target too: its own
    CHECK(p->plan.moves[1].collides);
    CHECK_FALSE(p->plan.moves[2].collides);
    CHECK(p->plan.highest_target == number_b + 1000);
    CHECK(p->plan.close_from == std::max({number_a, number_b, base->cwd.get()}) + 1);
}

TEST_CASE("attributes out of their range are refused, at their range's end they are not") {
    check_refused("umask", [](spawn_request& r) { r.body.set_umask(01000); });
    check_refused("nice", [](spawn_request& r) { r.body.set_nice(20); });
    check_refused("nice", [](spawn_request& r) { r.body.set_nice(-21); });
    check_refused("oom_score_adj", [](spawn_request& r) { r.body.set_oom_score_adj(1001); });
    check_refused("oom_score_adj", [](spawn_request& r) { r.body.set_oom_score_adj(-1001); });
    for (const unsigned policy : {0U, static_cast<unsigned>(SCHED_IDLE) + 2})
        check_refused("scheduling",
                      [&](spawn_request& r) { r.body.mutable_scheduling()->set_policy(policy); });
    for (const int priority : {-1, 100})
        check_refused("scheduling", [&](spawn_request& r) {
            r.body.mutable_scheduling()->set_policy(SCHED_FIFO + 1);
            r.body.mutable_scheduling()->set_priority(priority);
        });
    check_refused("cpus", [](spawn_request& r) { r.body.add_cpus(ipc::k_max_cpus); });
    check_refused("uid", [](spawn_request& r) { r.body.set_uid(UINT_MAX); });
    check_refused("uid", [](spawn_request& r) { r.body.set_gid(UINT_MAX); });
    for (const int s : {-1, SIGRTMAX + 1})
        check_refused("parent_death_signal",
                      [&](spawn_request& r) { r.body.set_parent_death_signal(s); });
    for (const int s : {-1, 0, SIGKILL, SIGSTOP, SIGRTMAX + 1})
        check_refused("ignored_signals", [&](spawn_request& r) { r.body.add_ignored_signals(s); });
    check_refused("groups", [](spawn_request& r) {
        for (std::size_t i = 0; i <= ipc::k_max_groups; ++i) r.body.mutable_groups()->add_gid(1);
    });

    spawn_request good;
    good.body.set_umask(0777);
    good.body.set_nice(19);
    good.body.set_oom_score_adj(-1000);
    good.body.add_cpus(0);
    good.body.add_cpus(ipc::k_max_cpus - 1);
    good.body.set_parent_death_signal(SIGRTMAX);
    for (const int s : {SIGHUP, SIGRTMAX, SIGHUP}) good.body.add_ignored_signals(s);
    const auto p = planned(std::move(good));
    CHECK(p->plan.umask == 0777);
    CHECK(p->plan.cpus_size == ipc::k_max_cpus / 8);
    CHECK(CPU_COUNT_S(p->plan.cpus_size, p->plan.cpus) == 2);
    CHECK(p->plan.parent_death_signal == SIGRTMAX);
    CHECK(p->plan.ignored_signals == (std::uint64_t{1} << 63 | 1));
}

TEST_CASE("limits: each resource once, soft below hard, and what the forkserver raised goes back") {
    const auto limit = [](spawn_request& r, unsigned resource, std::uint64_t soft,
                          std::uint64_t hard) {
        auto& l = *r.body.add_rlimits();
        l.set_resource(resource);
        l.set_soft(soft);
        l.set_hard(hard);
    };
    check_refused("rlimits", [&](spawn_request& r) { limit(r, 0, 1, 1); });
    check_refused("rlimits", [&](spawn_request& r) { limit(r, RLIM_NLIMITS + 1, 1, 1); });
    check_refused("rlimits", [&](spawn_request& r) { limit(r, RLIMIT_CORE + 1, 2, 1); });
    check_refused("rlimits", [&](spawn_request& r) {
        limit(r, RLIMIT_CORE + 1, 1, 1);
        limit(r, RLIMIT_CORE + 1, 1, 1);
    });

    parent_facts self;
    self.restore_descriptor_limit = true;
    self.descriptor_limit = {1024, 20'000};
    const auto plain = planned(spawn_request(), make_base(), self);
    REQUIRE(plain->plan.limit_count == 1);
    CHECK(plain->plan.limits[0].resource == RLIMIT_NOFILE);
    CHECK(plain->plan.limits[0].value.rlim_cur == 1024);
    spawn_request asked;
    limit(asked, RLIMIT_NOFILE + 1, 10, 20);
    const auto p = planned(std::move(asked), make_base(), self);
    REQUIRE(p->plan.limit_count == 1);
    CHECK(p->plan.limits[0].value.rlim_cur == 10);
}

TEST_CASE("groups of processes and terminals that cannot be are refused") {
    check_refused("process_group", [](spawn_request& r) {
        r.body.set_process_group(static_cast<v1::ProcessGroup>(9));
    });
    for (const int id : {0, -1, INT_MIN})
        check_refused("process_group_id", [&](spawn_request& r) {
            r.body.set_process_group(v1::PROCESS_GROUP_JOIN);
            r.body.set_process_group_id(id);
        });
    check_refused("controlling_terminal",
                  [](spawn_request& r) { r.body.set_controlling_terminal(0); });
    check_refused("controlling_terminal", [](spawn_request& r) {
        r.body.set_process_group(v1::PROCESS_GROUP_SESSION);
        r.body.set_controlling_terminal(3);
    });
}

TEST_CASE("lifetimes that cannot be are refused") {
    check_refused("lifetime", [](spawn_request& r) { r.body.mutable_lifetime()->set_signal(65); });
    check_refused("lifetime", [](spawn_request& r) { r.body.mutable_lifetime()->set_signal(-1); });
    check_refused("lifetime", [](spawn_request& r) {
        r.body.mutable_lifetime()->set_grace_ms(
            static_cast<std::uint32_t>(ipc::k_max_grace.count()) + 1);
    });
    for (const int target : {5, -1})
        check_refused("lifetime", [&](spawn_request& r) {
            r.body.mutable_lifetime()->set_target(static_cast<v1::SignalTarget>(target));
        });
    check_refused("lifetime", [](spawn_request& r) {
        r.body.mutable_lifetime()->set_target(v1::SIGNAL_TARGET_CGROUP);
    });
    check_refused("lifetime", [](spawn_request& r) {
        r.body.set_process_group(v1::PROCESS_GROUP_JOIN);
        r.body.set_process_group_id(1);
        r.body.mutable_lifetime()->set_target(v1::SIGNAL_TARGET_GROUP);
    });
}

TEST_CASE("another user loses supplementary groups only where there is a right to") {
    parent_facts root, other;
    root.privileged = true;
    spawn_request r, same;
    r.body.set_uid(1000);
    same.body.set_uid(1000);
    CHECK(planned(std::move(r), make_base(), root)->plan.set_groups);
    CHECK_FALSE(planned(std::move(same), make_base(), other)->plan.set_groups);
    CHECK_FALSE(planned(spawn_request(), make_base(), root)->plan.set_groups);
}

TEST_CASE("activation leaves room for a pid, and takes the variables for itself") {
    const auto listen = [](spawn_request& r, const std::string& name) {
        auto& l = *r.body.add_listen_descriptors();
        l.set_source_descriptor(r.add_null());
        l.set_name(name);
    };
    spawn_request r;
    listen(r, "a");
    listen(r, "b.c");
    const auto p = planned(std::move(r), make_base({"LISTEN_FDS=9", "LISTEN_PID=1", "X=1"}));
    std::strcpy(p->plan.listen_pid, "2147483647");
    CHECK(strings(p->plan.envp) == std::vector<std::string>{"X=1", "LISTEN_FDS=2",
                                                            "LISTEN_FDNAMES=a:b.c",
                                                            "LISTEN_PID=2147483647"});
    CHECK(p->plan.moves[0].target == 3);
    CHECK(p->plan.moves[1].target == 4);
    check_refused("environment", [&](spawn_request& bad) {
        listen(bad, "a");
        bad.body.mutable_environment()->add_unset("LISTEN_PID");
    });
    for (const std::string& name : {std::string("a:b"), std::string("\x7f"), std::string("\t"),
                                    std::string(256, 'a'), std::string()})
        check_refused("listen_descriptors", [&](spawn_request& bad) { listen(bad, name); });
}

TEST_CASE("a relative directory is entered from the base, an absolute one is not") {
    const auto base = make_base();
    spawn_request relative, absolute;
    relative.body.set_cwd_path("below");
    absolute.body.set_cwd_path("/tmp");
    CHECK(planned(std::move(relative), base)->plan.cwd_fd == base->cwd.get());
    CHECK(planned(std::move(absolute), base)->plan.cwd_fd == -1);
}

TEST_CASE("a command is shown with its first 256 bytes") {
    spawn_request r{"/bin/true"};
    r.body.mutable_exec()->add_argv(std::string(100'000, 'x'));
    r.body.mutable_exec()->add_argv("never shown");
    const std::string shown = command_of(planned(std::move(r))->request());
    CHECK(shown.size() == 256);
    CHECK(shown.starts_with("/bin/true xxx"));
}
