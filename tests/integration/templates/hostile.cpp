// Calls that are broken, and children that break: the caller gets a typed error or the exact
// end, and the template, the other children and the forkserver go on.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <optional>

#include "ipc/base/process_ref.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/integration/attributes/inspection.hpp"
#include "tests/integration/templates/template_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

v1::ClientMessage hostile_template(std::uint32_t warm = 0) {
    v1::ClientMessage m = add_request({.warm = warm});
    m.mutable_add_template()->mutable_process()->mutable_exec()->set_path(
        helper_path("template_hostile"));
    return m;
}

// A forkserver with the template "t", and what it has at rest.
struct hostile_daemon {
    explicit hostile_daemon(std::uint32_t warm = 0) {
        REQUIRE(failure_in(s.request(hostile_template(warm))) == failure{});
        at_rest = info_until(s, [warm](const v1::TemplateInfo& i) {
            return i.generations(0).warm_pids_size() == static_cast<int>(warm);
        });
        before.emplace(s);
        processes = test::children_of(daemon.pid()).size();
    }
    // The same template, and nothing more.
    void expect_well() {
        CHECK(call(s, call_of("exit", {"3"})).exit.code() == 3);
        const v1::TemplateInfo now = info_until(s, [this](const v1::TemplateInfo& i) {
            return i.generations_size() == 1 &&
                   i.generations(0).warm_pids_size() == at_rest.generations(0).warm_pids_size() &&
                   i.generations(0).children() == 0;
        });
        CHECK(now.generations(0).pid() == at_rest.generations(0).pid());
        before->expect_again();
        while (test::children_of(daemon.pid()).size() != processes) {
        }
    }

    subreaper mine;
    test_daemon daemon;
    raw_session s{daemon};
    v1::TemplateInfo at_rest;
    std::optional<baseline> before;
    std::size_t processes = 0;
};

using purposes = std::vector<v1::DescriptorPurpose>;

// The failure of a call whose payload is the packet's first descriptor.
failure payload_failure(raw_session& s, int fd,
                        const purposes& what = {v1::DESCRIPTOR_PURPOSE_PAYLOAD},
                        std::uint32_t index = 1) {
    v1::ClientMessage m;
    *m.mutable_spawn() = call_of("sum");
    m.mutable_spawn()->mutable_call()->set_payload_descriptor(index);
    for (const auto p : what) m.add_descriptors(p);
    return failure_in(s.request(std::move(m), {{fd}}));
}

struct pipe_ends {
    pipe_ends() {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        read.reset(ends[0]);
        write.reset(ends[1]);
    }
    unique_fd read, write;
};

// A call of "wait_for", which runs; it ends when `go` is closed.
struct waiting_call {
    waiting_call(raw_session& s, v1::SpawnRequest r, int payload = -1) {
        const pipe_ends up, down;
        v1::ClientMessage m;
        std::vector<int> fds{up.write.get(), down.read.get()};
        for (const char* name : {"ready", "go"}) {
            v1::DescriptorMapping& d = *r.add_descriptors();
            d.set_source_descriptor(static_cast<std::uint32_t>(r.descriptors_size()));
            d.set_target(2 + r.descriptors_size());
            d.set_name(name);
            m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
        }
        if (payload >= 0) {
            fds.push_back(payload);
            m.add_descriptors(v1::DESCRIPTOR_PURPOSE_PAYLOAD);
            r.mutable_call()->set_payload_descriptor(3);
        }
        *m.mutable_spawn() = std::move(r);
        const reply got = s.request(std::move(m), fds);
        REQUIRE_MESSAGE(got.message.spawn().has_spawned(), failure_in(got).message());
        child = got.message.spawn().spawned().child();
        char byte = 0;
        REQUIRE(::read(up.read.get(), &byte, 1) == 1);
        go.reset(::dup(down.write.get()));
    }
    v1::Exit end(raw_session& s) {
        go.reset();
        const v1::Exit e = s.await_exit(child);
        s.acknowledge({child});
        return e;
    }
    std::uint64_t child = 0;
    unique_fd go;
};

bool is_stopped(pid_t pid) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(in, text);
    return text.find(") T ") != std::string::npos;
}

}  // namespace

TEST_CASE("a payload that is no file is refused, in its child and by its name") {
    for (const std::uint32_t warm : {0U, 2U}) {
        hostile_daemon d(warm);
        const auto check = [&](const char* what, int fd, int error_number, step at) {
            INFO(std::string(what));
            const failure f = payload_failure(d.s, fd);
            CHECK(f.step == at);
            CHECK(f.error_number == error_number);
            CHECK(f.object == "payload");
        };
        const pipe_ends p;
        check("a pipe", p.read.get(), EINVAL, step::request);
        const unique_fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        check("a socket", socket.get(), EINVAL, step::request);
        const unique_fd directory(::open("/usr", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        check("a directory", directory.get(), EINVAL, step::request);
        const unique_fd device(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
        check("a device", device.get(), EINVAL, step::request);
        const scratch_directory files;
        const unique_fd closed(::open((files / "f").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        REQUIRE(::write(closed.get(), "x", 1) == 1);
        check("one that cannot be read", closed.get(), EACCES, step::prepare);
        d.expect_well();
    }
}

TEST_CASE("a payload whose descriptor is another's, or did not come, is refused") {
    hostile_daemon d;
    const unique_fd file = memory_file("abc");
    CHECK(payload_failure(d.s, file.get()) == failure{});
    const failure mapped = payload_failure(d.s, file.get(), {v1::DESCRIPTOR_PURPOSE_CHILD});
    CHECK(mapped.step == step::request);
    CHECK(mapped.object == "payload");
    for (const std::uint32_t index : {0U, 2U, 1000U, ~0U})
        CHECK(payload_failure(d.s, file.get(), {v1::DESCRIPTOR_PURPOSE_PAYLOAD}, index).step ==
              step::request);
    // One that nobody announced ends its session and no other.
    raw_session hostile(d.daemon);
    v1::ClientMessage m;
    m.set_request_id(99);
    *m.mutable_spawn() = call_of("sum");
    const int fd = file.get();
    hostile.send(std::move(m), {&fd, 1});
    CHECK(hostile.ends());
    CHECK(hostile.last_failure.step == step::protocol);
    const reply first = d.s.reply_to(d.s.post_spawn(call_of("nothing")));
    CHECK(failure_in(first) == failure{});
}

TEST_CASE("a payload that is cut while it is read ends that child alone") {
    for (const std::uint32_t warm : {0U, 2U}) {
        hostile_daemon d(warm);
        const unique_fd whole = memory_file(std::string(1 << 16, '\1'));
        waiting_call other(d.s, call_of("wait_for", {"9"}));
        waiting_call good(d.s, call_of("wait_for"), whole.get());
        CHECK(good.end(d.s).code() == (1U << 16) % 251);
        waiting_call cut(d.s, call_of("wait_for"), whole.get());
        REQUIRE(::ftruncate(whole.get(), 0) == 0);
        CHECK(cut.end(d.s).signal() == SIGBUS);
        CHECK(other.end(d.s).code() == 9);
        d.expect_well();
    }
}

TEST_CASE("entries that there are not are told, whatever bytes their names have") {
    for (const std::uint32_t warm : {0U, 2U}) {
        hostile_daemon d(warm);
        for (const std::string& name :
             {std::string(), std::string("\xff\xfe\n"), std::string("a\0b", 3),
              std::string("nothing\0", 8), std::string(ipc::k_max_name, 'e')}) {
            const failure f = call(d.s, call_of(name)).refused;
            CHECK(f.step == step::entry);
            CHECK(f.error_number == ENOENT);
            CHECK(f.object == name);
            CHECK(f.detail.find("the template has: ") != std::string::npos);
        }
        const failure f = call(d.s, call_of("nothing", {}, std::string("\0\xff", 2))).refused;
        CHECK(f.step == step::template_name);
        CHECK(f.error_number == ENOENT);
        d.expect_well();
    }
}

TEST_CASE("each number of a call and of a template has its limit, and not one more") {
    hostile_daemon d;
    const auto refused = [&](const v1::SpawnRequest& r) { return call(d.s, r).refused; };
    CHECK(refused(call_of(std::string(ipc::k_max_name + 1, 'e'))).error_number == E2BIG);
    CHECK(refused(call_of("nothing", {std::string(ipc::k_max_string, 'a')})) == failure{});
    CHECK(refused(call_of("nothing", {std::string(ipc::k_max_string + 1, 'a')})).error_number ==
          E2BIG);
    std::vector<std::string> words(ipc::k_max_call_arguments, "x");
    CHECK(refused(call_of("nothing", words)) == failure{});
    words.emplace_back("x");
    CHECK(refused(call_of("nothing", words)).error_number == E2BIG);

    // Above the limit of what the client sends inline it is as good; only larger.
    v1::SpawnRequest large = call_of("sum");
    large.mutable_call()->set_payload(std::string(ipc::k_max_inline_payload + 1, '\1'));
    CHECK(call(d.s, large).exit.code() == (ipc::k_max_inline_payload + 1) % 251);

    const unique_fd file = memory_file();
    const auto with = [&](std::size_t count, const std::string& name) {
        std::vector<std::pair<std::string, int>> all;
        for (std::size_t i = 0; i < count; ++i)
            all.emplace_back(name + std::to_string(i), file.get());
        return call(d.s, call_of("nothing"), all).refused;
    };
    CHECK(with(ipc::k_max_call_descriptors - 1, "f") == failure{});  // and the answer's
    CHECK(with(ipc::k_max_call_descriptors, "f").error_number == E2BIG);
    CHECK(with(1, std::string(ipc::k_max_name - 1, 'n')) == failure{});
    CHECK(with(1, std::string(ipc::k_max_name, 'n')).step == step::request);
    const auto twice = call(d.s, call_of("nothing"), {{"same", file.get()}, {"same", file.get()}});
    CHECK(twice.refused.step == step::request);

    const auto added = [&](const std::string& name, std::uint32_t warm) {
        return failure_in(add_template(d.s, {.name = name, .warm = warm}));
    };
    CHECK(added(std::string(ipc::k_max_name + 1, 'n'), 0).step == step::template_name);
    for (const char* name : {"", " ", "a b", "a\nb", "\x7f"})
        CHECK(added(name, 0).step == step::template_name);
    CHECK(added("warm", ipc::k_max_warm + 1).error_number == E2BIG);
    d.expect_well();
}

TEST_CASE("there may be so many templates, and not one more") {
    test_daemon daemon;
    raw_session s(daemon);
    const auto add = [&](std::size_t number) {
        v1::ClientMessage m = hostile_template();
        m.mutable_add_template()->set_name("t" + std::to_string(number));
        m.mutable_add_template()->mutable_process()->mutable_exec()->set_path("/no/such/program");
        return failure_in(s.request(std::move(m)));
    };
    for (std::size_t i = 0; i < ipc::k_max_templates; ++i) REQUIRE(add(i).step == step::exec);
    const failure f = add(ipc::k_max_templates);
    CHECK(f.step == step::quota);
    CHECK(f.error_number == EDQUOT);
    CHECK(add(0).step == step::exec);  // the next of a name is none more
    v1::ClientMessage m;
    m.mutable_remove_template()->set_name("t7");
    CHECK(failure_in(s.request(m)) == failure{});
    CHECK(add(ipc::k_max_templates).step == step::exec);
}

TEST_CASE("an entry that crashes, leaves, or closes everything ends as itself and nothing else") {
    for (const std::uint32_t warm : {0U, 2U}) {
        hostile_daemon d(warm);
        waiting_call other(d.s, call_of("wait_for", {"9"}));
        CHECK(call(d.s, call_of("segfault")).exit.signal() == SIGSEGV);
        CHECK(call(d.s, call_of("leave")).exit.code() == 5);
        CHECK(call(d.s, call_of("std_exit")).exit.code() == 6);
        CHECK(call(d.s, call_of("close_everything")).exit.code() == 4);
        CHECK(call(d.s, call_of("exit", {"no number"})).exit.error() == "stoi");
        const reply stopped = d.s.reply_to(d.s.post_spawn(call_of("stop")));
        REQUIRE(stopped.message.spawn().has_spawned());
        const pid_t pid = stopped.message.spawn().spawned().pid();
        CHECK(call(d.s, call_of("exit", {"3"})).exit.code() == 3);  // meanwhile
        // It may not have come so far: the signal to go on counts once it has stopped.
        while (!is_stopped(pid)) {
        }
        CHECK(ipc::pidfd_signal(stopped.descriptors.at(0).get(), SIGCONT) == 0);
        const std::uint64_t child = stopped.message.spawn().spawned().child();
        CHECK(d.s.await_exit(child).code() == 3);
        d.s.acknowledge({child});
        CHECK(other.end(d.s).code() == 9);
        d.expect_well();
    }
}

TEST_CASE("an entry that kills its template ends with its own status, and the next one serves") {
    for (const std::uint32_t warm : {0U, 2U}) {
        hostile_daemon d(warm);
        waiting_call other(d.s, call_of("wait_for", {"9"}));
        CHECK(call(d.s, call_of("kill_parent")).exit.code() == 2);
        info_until(d.s, [](const v1::TemplateInfo& i) {
            return i.restarts() == 1 && i.state() == v1::TEMPLATE_STATE_READY;
        });
        CHECK(call(d.s, call_of("exit", {"3"})).exit.code() == 3);
        CHECK(other.end(d.s).code() == 9);
        info_until(d.s, [warm](const v1::TemplateInfo& i) {
            return i.generations_size() == 1 &&
                   i.generations(0).warm_pids_size() == static_cast<int>(warm);
        });
        d.before->expect_again();
    }
}
