// Errors and exit statuses as values.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cleanfork/error.hpp>
#include <cleanfork/exit_status.hpp>
#include <csignal>

using namespace cleanfork;

TEST_CASE("an error code keeps step and errno, and compares equal to the errno's condition") {
    const auto ec = make_error_code({step::chdir, ENOENT, "/nowhere"});
    CHECK(ec.failed());
    CHECK(ec == boost::system::errc::no_such_file_or_directory);
    CHECK(ec != boost::system::errc::permission_denied);
    CHECK(step_of(ec) == step::chdir);
    CHECK(errno_of(ec) == ENOENT);
    CHECK(ec.message().find("chdir") != std::string::npos);
    CHECK(ec != make_error_code({step::exec, ENOENT}));
}

TEST_CASE("codes of other categories have no step") {
    const boost::system::error_code ec(ENOENT, boost::system::system_category());
    CHECK(step_of(ec) == step::none);
    CHECK(errno_of(ec) == 0);
}

TEST_CASE("no such directory and no such program are different sentences") {
    const spawn_error directory({step::chdir, ENOENT, "/x"}), program({step::exec, ENOENT, "/x"});
    CHECK(std::string(directory.what()).find("no such working directory") != std::string::npos);
    CHECK(std::string(program.what()).find("no such program") != std::string::npos);
    CHECK(directory.object() == "/x");
    CHECK(directory.code() == boost::system::errc::no_such_file_or_directory);
}

TEST_CASE("a result without value throws the whole failure") {
    const result<int> r = failure{step::rlimit, EPERM, "nofile", {}};
    try {
        (void)r.value();
        FAIL("no exception");
    } catch (const spawn_error& e) {
        CHECK(e.step() == step::rlimit);
        CHECK(e.error_number() == EPERM);
        CHECK(e.object() == "nofile");
    }
    CHECK(failure_of(std::make_exception_ptr(spawn_error(r.error()))) == r.error());
    CHECK(failure_of({}).step == step::none);
}

TEST_CASE("wait statuses become what they say") {
    CHECK(exit_status::from_wait_status(W_EXITCODE(3, 0)) == exit_status::exited(3));
    CHECK(exit_status::from_wait_status(SIGKILL) == exit_status::signaled(SIGKILL, false));
    CHECK(exit_status::from_wait_status(SIGSEGV | WCOREFLAG) ==
          exit_status::signaled(SIGSEGV, true));
    CHECK(exit_status::from_wait_status(0x137f).is_unknown());  // stopped
}

TEST_CASE("a status that is not known is neither success nor a number") {
    const exit_status s = exit_status::unknown("forkserver lost");
    CHECK_FALSE(s.success());
    CHECK(s.code() == -1);
    CHECK(s.signal() == 0);
    CHECK(s.shell_code() == 125);
    CHECK(s.to_string() == "unknown: forkserver lost");
    CHECK(exit_status().is_unknown());
}

TEST_CASE("statuses read as a person would say them") {
    CHECK(exit_status::exited(3).to_string() == "exited 3");
    CHECK(exit_status::signaled(SIGSEGV, true).to_string() == "killed by SIGSEGV (core dumped)");
    CHECK(exit_status::signaled(SIGRTMIN + 2, false).to_string() == "killed by SIGRTMIN+2");
    CHECK(exit_status::signaled(SIGTERM, false).shell_code() == 143);
    CHECK(exit_status::exited(0).success());
}
