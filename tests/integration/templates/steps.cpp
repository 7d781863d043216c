// Every step of a call's child fails here: by its name, its errno and its object, as for a
// program; and neither the template nor the forkserver keeps anything of it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "ipc/wire/limits.hpp"
#include "tests/integration/attributes/failing_steps.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

constexpr int k_no_group = 1 << 22;  // above every pid

// A template in which the system calls of `rules` fail.
void add_denied(const client& c, const std::string& name, const std::vector<std::string>& rules,
                unsigned warm) {
    template_options o{.process = {.program = helper("deny")}, .warm = warm};
    for (const std::string& r : rules) o.process.args.push_back("--deny=" + r);
    o.process.args.push_back("--program=" + helper("template_program"));
    c.add_template(name, o);
}

// The steps that fail without any help. The program of each is the template's.
std::vector<failing> natural_failures() {
    const process_group session{.how = process_group::kind::session};
    const auto join = [](pid_t id) {
        return process_group{.how = process_group::kind::join, .id = id};
    };
    const rlim_t too_many = rlim_t{1} << 40;  // above fs.nr_open, even for root
    return {
        {"a cgroup that is not there",
         step::cgroup,
         ENOENT,
         "/no/such/cgroup",
         {.program = {}, .cgroup = "/no/such/cgroup"}},
        {"a directory that is no cgroup",
         step::cgroup,
         EBADF,
         "/usr",
         {.program = {}, .cgroup = "/usr"}},
        {"a group that is not there",
         step::process_group,
         EPERM,
         std::to_string(k_no_group),
         {.program = {}, .group = join(k_no_group)}},
        {"a group of another session",
         step::process_group,
         EPERM,
         std::to_string(::getpgrp()),
         {.program = {}, .group = join(::getpgrp())}},
        {"a terminal that is none",
         step::controlling_terminal,
         ENOTTY,
         "descriptor 0",
         {.program = {}, .group = session, .controlling_terminal = 0}},
        {"a priority that the policy lacks",
         step::scheduler,
         EINVAL,
         "",
         {.program = {}, .sched = scheduling{SCHED_OTHER, 5}}},
        {"processors that are not there",
         step::affinity,
         EINVAL,
         "",
         {.program = {}, .cpus = {static_cast<unsigned>(ipc::k_max_cpus) - 1}}},
        {"a limit that not even root may have",
         step::rlimit,
         EPERM,
         "resource 7",
         {.program = {}, .rlimits = {{RLIMIT_CORE, 0, 0}, {RLIMIT_NOFILE, 10, too_many}}}},
        {"a directory that is not there",
         step::chdir,
         ENOENT,
         "/no/such/directory",
         {.program = {}, .cwd = "/no/such/directory"}},
        {"a directory that is none",
         step::chdir,
         ENOTDIR,
         "/dev/null",
         {.program = {}, .cwd = "/dev/null"}},
        {"a limit without sense",
         step::request,
         EINVAL,
         {},
         {.program = {}, .rlimits = {{RLIMIT_CORE, 2, 1}}}},
        {"a nice value that there is not", step::request, EINVAL, {}, {.program = {}, .nice = 20}},
        {"a target that there is not",
         step::request,
         EINVAL,
         {},
         {.program = {}, .fds = {{0, ipc::k_max_target + 1}}}},
    };
}

// The steps that only a system call made to fail can show: in the template's children.
std::vector<failing> denied_failures(const unique_fd& file) {
    const spawn_options plain{.program = {}};
    const spawn_options low{.program = {}, .fds = {{file.get(), 3}, {file.get(), 4}}};
    std::vector<failing> all = denied_attributes({});
    all.insert(all.end(),
               {
                   {"no number free above the targets",
                    step::descriptors,
                    EMFILE,
                    {},
                    low,
                    {rule("fcntl" + argument(1, F_DUPFD_CLOEXEC) + argument(2, 5), EMFILE)}},
                   {"descriptors that cannot be closed",
                    step::close_descriptors,
                    ENOMEM,  // ENOSYS and EPERM mean that there is no such call
                    "",
                    plain,
                    {rule("close_range" + argument(2, 0), ENOMEM)},
                    {},
                    false},
               });
    return all;
}

// As try_failing() of a spawn.
json try_call(const client& c, const std::string& name, const failing& f) {
    json outcome = json::object();
    const leftovers before = leftovers_of(c);
    for (int i = 0; i < 3; ++i) {
        auto r = c.try_call(name, "nothing", {}, {.leased = false, .attributes = f.options});
        if (r) {
            outcome["ended"] = r->wait().to_string();
            return outcome;
        }
        const failure& why = r.error();
        outcome["step"] = to_string(why.step);
        outcome["errno"] = why.error_number;
        outcome["object"] = why.object;
        outcome["message"] = why.message();
    }
    outcome["others"] =
        !f.others_work ||
        c.run_call(name, "nothing", {}, {.leased = false}).status == exit_status::exited(0);
    // What was refused has ended, told, and is reaped: the pool aside, all is as before.
    outcome["leftovers"] = true;
    const template_info now = c.template_info(name);
    if (now.generation != 1 || now.state != template_state::ready || now.waiting != 0)
        outcome["leftovers"] = "another template";
    const auto is_as_before = [&] {
        const leftovers after = leftovers_of(c);
        return after.children == before.children && after.statuses == before.statuses &&
               after.processes == before.processes;
    };
    // A process that closes what was left in a channel ends in a moment.
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!is_as_before())
        if (std::chrono::steady_clock::now() > until) {
            outcome["leftovers"] = "children";
            break;
        }
    return outcome;
}

// Removes the template and waits until the forkserver has nothing of it.
void remove_and_expect(const client& c, const std::string& name, const leftovers& before) {
    c.remove_template(name);
    leftovers now;
    do now = leftovers_of(c);
    while (now.descriptors > before.descriptors || now.children != before.children ||
           now.processes != before.processes);
    CHECK(now == before);
}

// A first template of any name: then the forkserver is a subreaper for good.
client launch_with_a_template() {
    client c = launch_without("");
    c.add_template("first", {.process = {.program = helper("template_program")}});
    return c;
}

}  // namespace

TEST_CASE("steps of a call that fail of themselves are named as those of a program") {
    const client c = launch_with_a_template();
    for (const unsigned warm : {0U, 2U}) {
        const leftovers before = leftovers_of(c);
        c.add_template("t", {.process = {.program = helper("template_program")}, .warm = warm});
        for (const failing& f : natural_failures()) {
            INFO(warm << " warm children");
            check_outcome(f, try_call(c, "t", f));
        }
        remove_and_expect(c, "t", before);
    }
}

TEST_CASE("steps of a call that hardly ever fail are named when their system call does") {
    const client c = launch_with_a_template();
    const unique_fd file(::memfd_create("cleanfork-step", MFD_CLOEXEC));
    REQUIRE(file);
    for (const unsigned warm : {0U, 1U})
        for (const failing& f : denied_failures(file)) {
            INFO(warm << " warm children");
            const leftovers before = leftovers_of(c);
            add_denied(c, "t", f.denied, warm);
            check_outcome(f, try_call(c, "t", f));
            remove_and_expect(c, "t", before);
        }
}

TEST_CASE("no step of a call's child is left without a failure of its own") {
    std::set<step> seen;
    const unique_fd file;
    for (const auto& list : {natural_failures(), denied_failures(file)})
        for (const failing& f : list) seen.insert(f.at);
    for (std::uint32_t n = 0; n < 64; ++n) {
        const auto s = static_cast<step>(n);
        if (!is_child_step(s) || to_string(s) == "unknown") continue;
        // A call has no clone and no exec of ours; the third needs an account that may not
        // lower it: below.
        if (s == step::clone || s == step::exec || s == step::oom_score_adj) continue;
        CHECK_MESSAGE(seen.contains(s), to_string(s));
    }
}

TEST_CASE("an oom_score_adj that the call's user may not have is told as that") {
    if (skipped_without_root("a template of another user")) return;
    const client c = launch_with_a_template();
    // Where that user reaches it.
    namespace fs = std::filesystem;
    std::string directory = (fs::temp_directory_path() / "cleanfork-steps-XXXXXX").string();
    REQUIRE(::mkdtemp(directory.data()) != nullptr);
    fs::permissions(directory, fs::perms(0755));
    fs::copy_file(helper("template_program"), directory + "/program");
    c.add_template("t", {.process = {.program = directory + "/program", .cwd = "/", .uid = 4321}});
    fs::remove_all(directory);
    const auto r = c.try_call("t", "nothing", {},
                              {.attributes = {.program = {}, .cwd = "/", .oom_score_adj = -1000}});
    REQUIRE_FALSE(r.has_value());
    CHECK(r.error().step == step::oom_score_adj);
    CHECK(r.error().error_number == EACCES);
    CHECK(r.error().object == "-1000");
}

TEST_CASE("a template that cannot fork says so to each call, and lives on") {
    const client c = launch_with_a_template();
    for (const int e : {EAGAIN, ENOMEM}) {
        const leftovers before = leftovers_of(c);
        add_denied(c, "t", {rule("clone", e)}, 0);
        for (int i = 0; i < 3; ++i) {
            const auto r = c.try_call("t", "nothing");
            REQUIRE_FALSE(r.has_value());
            CHECK(r.error().step == step::fork);
            CHECK(r.error().error_number == e);
        }
        CHECK(c.template_info("t").generation == 1);
        remove_and_expect(c, "t", before);
    }
}
