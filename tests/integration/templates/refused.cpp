// Templates from which no child may be forked: those that begin unclean, those that become it,
// and those that do not begin at all. All of them say why, and their calls fail with that.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/attributes/inspection.hpp"
#include "tests/integration/templates/template_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

struct bad_start {
    const char* init;  // TEMPLATE_INIT
    v1::TemplateState state;
    step at;
    const char* reason;      // in the error
    const char* words = "";  // in what it wrote
};

constexpr bad_start k_bad_starts[] = {
    {"thread", v1::TEMPLATE_STATE_REFUSED, step::clean, "1 extra thread: template_progra"},
    {"socket", v1::TEMPLATE_STATE_REFUSED, step::clean, "1 socket"},
    {"epoll", v1::TEMPLATE_STATE_REFUSED, step::clean, "1 epoll descriptor"},
    {"fork", v1::TEMPLATE_STATE_REFUSED, step::clean, "1 child"},
    {"throw", v1::TEMPLATE_STATE_FAILED, step::template_start, "failed as it was told"},
    {"exit", v1::TEMPLATE_STATE_FAILED, step::template_start, "exited with 9 before it was ready"},
    {"noise", v1::TEMPLATE_STATE_FAILED, step::template_start, "signal 6 before it was ready",
     "a word before the end"},
    {"hang", v1::TEMPLATE_STATE_FAILED, step::template_start, "longer than 200 ms"},
};

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// Nothing of the template is left but its name and its story.
void expect_over(raw_session& s) {
    info_until(s, [](const v1::TemplateInfo& i) { return i.generations().empty(); });
    CHECK(s.list().children().empty());
}

void check_story(const v1::TemplateInfo& info, v1::TemplateState state, step at,
                 const char* reason) {
    CHECK(info.state() == state);
    const failure last = ipc::from_wire(info.last_error());
    CHECK(last.step == at);
    CHECK_MESSAGE(has(last.message(), reason), last.message());
}

void check_calls_fail(raw_session& s, step at, const char* reason) {
    for (int i = 0; i < 3; ++i) {
        const failure f = call(s, call_of("nothing")).refused;
        CHECK(f.step == at);
        CHECK_MESSAGE(has(f.message(), reason), f.message());
        CHECK(has(f.detail, "template t has"));
    }
}

void tell_to_misbehave(const std::string& path, const char* what) {
    std::ofstream(path + ".new") << what << "\n";
    REQUIRE(::rename((path + ".new").c_str(), path.c_str()) == 0);
}

}  // namespace

TEST_CASE("a template that begins badly is refused or has failed, with the reason everywhere") {
    const subreaper mine;
    test_daemon daemon;
    raw_session s(daemon);
    REQUIRE(failure_in(add_template(s, {.name = "good"})) == failure{});
    baseline before(s);
    for (const bad_start& b : k_bad_starts) {
        CAPTURE(std::string(b.init));
        const failure f = failure_in(
            add_template(s, {.env = {{"TEMPLATE_INIT", b.init}},
                             .start_timeout_ms = b.init == std::string("hang") ? 200U : 0U}));
        CHECK(f.step == b.at);
        CHECK_MESSAGE(has(f.message(), b.reason), f.message());
        const v1::TemplateInfo info = testing::template_info(s);
        check_story(info, b.state, b.at, b.reason);
        CHECK(info.generation() == 0);
        CHECK(info.retry_in_ms() == 0);  // it would be so the next time too
        CHECK_MESSAGE(has(info.stderr_tail(), b.words), info.stderr_tail());
        check_calls_fail(s, b.at, b.reason);
        expect_over(s);
        // What it had started has gone too.
        while (test::children_of(daemon.pid()).size() != 1) {
        }
        // The name is free for one that is well.
        CHECK(failure_in(add_template(s)) == failure{});
        CHECK(call(s, call_of("exit", {"3"})).exit.code() == 3);
        CHECK(testing::template_info(s).last_error().step() == 0);
        v1::ClientMessage m;
        m.mutable_remove_template()->set_name("t");
        CHECK(failure_in(s.request(m)) == failure{});
    }
    before.expect_again();
    CHECK(call(s, call_of("exit", {"4"}, "good")).exit.code() == 4);
}

TEST_CASE("a program that is no template, or is not there, is told as that") {
    test_daemon daemon;
    raw_session s(daemon);
    v1::ClientMessage m = add_request({});
    m.mutable_add_template()->mutable_process()->mutable_exec()->set_path("/no/such/program");
    const failure none = failure_in(s.request(m));
    CHECK(none.step == step::exec);
    CHECK(none.error_number == ENOENT);
    check_calls_fail(s, step::exec, "/no/such/program");
    m.mutable_add_template()->mutable_process()->mutable_exec()->set_path(helper_path("nothing"));
    const failure ended = failure_in(s.request(m));
    CHECK(ended.step == step::template_start);
    CHECK(has(ended.detail, "exited with 0 before it was ready"));
    m.mutable_add_template()->set_start_timeout_ms(100);
    m.mutable_add_template()->mutable_process()->mutable_exec()->set_path(
        helper_path("scale_pause"));
    const failure silent = failure_in(s.request(m));
    CHECK(silent.step == step::template_start);
    CHECK(silent.error_number == ETIMEDOUT);
    expect_over(s);
}

TEST_CASE("a template that becomes unclean is refused at its next fork, with what it did") {
    struct misdeed {
        const char* what;
        const char* reason;
    };
    constexpr misdeed k_misdeeds[] = {{"socket", "1 socket"},
                                      {"epoll", "1 epoll descriptor"},
                                      {"thread", "1 extra thread"},
                                      {"swap", "1 socket"}};  // as many descriptors as before
    const subreaper mine;
    const scratch_directory directory;
    const std::string order = directory / "misbehave";
    for (const std::uint32_t warm : {0U, 2U})
        for (const misdeed& d : k_misdeeds) {
            CAPTURE(std::string(d.what));
            CAPTURE(warm);
            test_daemon daemon;
            raw_session s(daemon);
            REQUIRE(failure_in(add_template(s, {.name = "good"})) == failure{});
            baseline before(s);
            REQUIRE(failure_in(add_template(
                        s, {.env = {{"TEMPLATE_MISBEHAVE", order}}, .warm = warm})) == failure{});
            info_until(s, [warm](const v1::TemplateInfo& i) {
                return i.generations(0).warm_pids_size() == static_cast<int>(warm);
            });
            const reply slept = s.reply_to(s.post_spawn(call_of("sleep")));
            REQUIRE(slept.message.spawn().has_spawned());
            const std::uint64_t living = slept.message.spawn().spawned().child();
            tell_to_misbehave(order, d.what);
            // The call in whose fork it happens is well: the misdeed is the template's, after it.
            // Of the next ones at most those have a child that were forked before.
            int ran = 0;
            failure f;
            for (; f.step == step::none && ran < 64; ++ran)
                f = call(s, call_of("exit", {"5"})).refused;
            CHECK(ran <= 3 + 2 * static_cast<int>(warm));
            CHECK(f.step == step::clean);
            CHECK_MESSAGE(has(f.message(), d.reason), f.message());
            const v1::TemplateInfo info = testing::template_info(s);
            check_story(info, v1::TEMPLATE_STATE_REFUSED, step::clean, d.reason);
            CHECK(info.retry_in_ms() == 0);
            check_calls_fail(s, step::clean, d.reason);
            // What was forked while it was clean lives on, to its exact end.
            CHECK(ipc::pidfd_signal(slept.descriptors.at(0).get(), SIGUSR1) == 0);
            CHECK(s.await_exit(living).signal() == SIGUSR1);
            s.acknowledge({living});
            expect_over(s);
            // A reload begins anew.
            v1::ClientMessage m;
            m.mutable_reload_template()->set_name("t");
            CHECK(failure_in(s.request(m)) == failure{});
            CHECK(call(s, call_of("exit", {"6"})).exit.code() == 6);
            m.mutable_remove_template()->set_name("t");
            CHECK(failure_in(s.request(m)) == failure{});
            before.expect_again();
        }
}

TEST_CASE("what is declared harmless, or tolerated, is not refused") {
    test_daemon daemon;
    raw_session s(daemon);
    v1::ClientMessage m = add_request({.env = {{"TEMPLATE_INIT", "socket"}}});
    m.mutable_add_template()->set_tolerate_unclean(true);
    const reply tolerated = s.request(m);
    REQUIRE(failure_in(tolerated) == failure{});
    const v1::TemplateInfo& info = tolerated.message.add_template().info();
    REQUIRE(info.generations_size() == 1);
    CHECK(has(info.generations(0).unclean(), "1 socket"));
    CHECK(call(s, call_of("exit", {"3"})).exit.code() == 3);
    // Nothing of it is in a child.
    CHECK_FALSE(has(call(s, call_of("fds")).bytes, "socket"));

    m.mutable_add_template()->set_tolerate_unclean(false);
    for (int fd = 3; fd < 6; ++fd) m.mutable_add_template()->add_allowed_descriptors(fd);
    const reply declared = s.request(m);
    REQUIRE(failure_in(declared) == failure{});
    CHECK(declared.message.add_template().info().generations(0).unclean().empty());
    CHECK(call(s, call_of("exit", {"3"})).exit.code() == 3);
}
