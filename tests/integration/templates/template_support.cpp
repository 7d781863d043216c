#include "tests/integration/templates/template_support.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/attributes/inspection.hpp"

namespace cleanfork::testing {

unique_fd memory_file(std::string_view contents) {
    unique_fd fd(::memfd_create("cleanfork-test", MFD_CLOEXEC));
    REQUIRE(bool(fd));
    REQUIRE(::write(fd.get(), contents.data(), contents.size()) ==
            static_cast<ssize_t>(contents.size()));
    return fd;
}

std::string contents_of(int fd) {
    struct stat st {};
    REQUIRE(::fstat(fd, &st) == 0);
    std::string bytes(static_cast<std::size_t>(st.st_size), '\0');
    REQUIRE(::pread(fd, bytes.data(), bytes.size(), 0) == st.st_size);
    return bytes;
}

v1::ClientMessage add_request(const template_request& t) {
    v1::ClientMessage m;
    v1::AddTemplateRequest& a = *m.mutable_add_template();
    a.set_name(t.name);
    a.set_from(t.from);
    a.set_warm(t.warm);
    a.set_start_timeout_ms(t.start_timeout_ms);
    a.set_call_timeout_ms(t.call_timeout_ms);
    v1::SpawnRequest& p = *a.mutable_process();
    if (t.from.empty()) {
        p.mutable_exec()->set_path(helper_path("template_program"));
        p.mutable_exec()->add_argv("template_program");
    } else {
        p.mutable_call()->set_entry("extend");
        p.mutable_call()->set_payload(t.payload);
    }
    for (const auto& [name, value] : t.env) p.mutable_environment()->add_set(name + "=" + value);
    return m;
}

reply add_template(raw_session& s, const template_request& t) { return s.request(add_request(t)); }

void remove_template(raw_session& s, const std::string& name) {
    v1::ClientMessage m;
    m.mutable_remove_template()->set_name(name);
    REQUIRE(failure_in(s.request(m)) == failure{});
}

baseline after_a_first_template(const test_daemon& daemon, raw_session& s) {
    REQUIRE(failure_in(add_template(s)) == failure{});
    remove_template(s);
    const auto give_up = std::chrono::steady_clock::now() + k_patience;
    while (!test::children_of(daemon.pid()).empty())
        REQUIRE(std::chrono::steady_clock::now() < give_up);
    return baseline(s);
}

v1::TemplateInfo template_info(raw_session& s, const std::string& name) {
    v1::ClientMessage m;
    m.mutable_list_templates()->set_name(name);
    const reply r = s.request(m);
    REQUIRE(r.message.has_list_templates());
    REQUIRE(r.message.list_templates().templates_size() == 1);
    return r.message.list_templates().templates(0);
}

void fail_with(const v1::TemplateInfo& info) {
    std::string text = "the template never became what it should: state " +
                       std::to_string(info.state()) + ", " + std::to_string(info.restarts()) +
                       " restarts, " + ipc::from_wire(info.last_error()).message();
    for (const v1::GenerationInfo& g : info.generations())
        text += "; generation " + std::to_string(g.generation()) + " in state " +
                std::to_string(g.state()) + " with " + std::to_string(g.children()) +
                " children, " + std::to_string(g.warm_pids_size()) + " warm";
    FAIL(text);
    std::abort();  // FAIL() throws
}

v1::SpawnRequest call_of(const std::string& entry, const std::vector<std::string>& arguments,
                         const std::string& name) {
    v1::SpawnRequest r;
    r.mutable_call()->set_template_name(name);
    r.mutable_call()->set_entry(entry);
    for (const std::string& a : arguments) r.mutable_call()->add_arguments(a);
    return r;
}

answer call(raw_session& s, v1::SpawnRequest r,
            const std::vector<std::pair<std::string, int>>& descriptors) {
    v1::ClientMessage m;
    const unique_fd result = memory_file();
    std::vector<int> fds{result.get()};
    r.mutable_call()->set_result_descriptor(1);
    m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
    int target = 5;
    for (const auto& [name, fd] : descriptors) {
        fds.push_back(fd);
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
        v1::DescriptorMapping& d = *r.add_descriptors();
        d.set_source_descriptor(static_cast<std::uint32_t>(fds.size()));
        d.set_target(name == "stdout" ? 1 : target++);
        if (name != "stdout") d.set_name(name);
    }
    *m.mutable_spawn() = std::move(r);
    const reply got = s.request(std::move(m), fds);
    answer a;
    a.refused = failure_in(got);
    if (a.refused.step != step::none) return a;
    REQUIRE(got.message.spawn().has_spawned());
    const std::uint64_t child = got.message.spawn().spawned().child();
    a.exit = s.await_exit(child);
    s.acknowledge({child});
    a.bytes = contents_of(result.get());
    return a;
}

sleeping_call::sleeping_call(raw_session& s, const v1::SpawnRequest& r) {
    reply got = s.reply_to(s.post_spawn(r));
    REQUIRE_MESSAGE(got.message.spawn().has_spawned(), failure_in(got).message());
    child = got.message.spawn().spawned().child();
    pid = got.message.spawn().spawned().pid();
    pidfd = std::move(got.descriptors.at(0));
}

void sleeping_call::expect_exact_end(raw_session& s) const {
    CHECK_FALSE(ipc::pidfd_wait(pidfd.get(), ipc::pidfd_event::ended, 0));
    REQUIRE(ipc::pidfd_signal(pidfd.get(), SIGUSR1) == 0);
    const v1::Exit e = s.await_exit(child);
    CHECK(e.how_case() == v1::Exit::kSignal);
    CHECK(e.signal() == SIGUSR1);
    CHECK(e.usage().max_rss_kib() > 0);
    s.acknowledge({child});
}

std::map<std::uint64_t, reply> gather(raw_session& s, const std::vector<std::uint64_t>& requests) {
    std::map<std::uint64_t, reply> all;
    while (all.size() != requests.size()) {
        auto r = s.receive();
        REQUIRE_MESSAGE(r.has_value(), "the daemon has closed: ", s.last_failure.message());
        const std::uint64_t id = r->message.request_id();
        if (std::find(requests.begin(), requests.end(), id) != requests.end())
            all.emplace(id, std::move(*r));
    }
    return all;
}

}  // namespace cleanfork::testing
