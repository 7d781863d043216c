// Errors and exit statuses as values.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <boost/asio/error.hpp>
#include <cleanfork/error.hpp>
#include <cleanfork/exit_status.hpp>
#include <csignal>
#include <future>
#include <system_error>

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

TEST_CASE("codes of other categories have no step, and an errno only where they count errnos") {
    namespace errc = boost::system::errc;
    const boost::system::error_code of_system(ENOENT, boost::system::system_category());
    CHECK(step_of(of_system) == step::none);
    CHECK(errno_of(of_system) == ENOENT);
    CHECK(errno_of(errc::make_error_code(errc::timed_out)) == ETIMEDOUT);
    CHECK(errno_of(std::make_error_code(std::errc::no_lock_available)) == ENOLCK);
    CHECK(errno_of(std::error_code(EPIPE, std::system_category())) == EPIPE);
    CHECK(errno_of({}) == 0);
    // Its value is 1, which is EPERM nowhere but in the categories above.
    const boost::system::error_code open_already = boost::asio::error::already_open;
    CHECK(open_already.value() == EPERM);
    CHECK(errno_of(open_already) == 0);
    CHECK(errno_of(std::make_error_code(std::future_errc::no_state)) == 0);
}

TEST_CASE("a code of any category as a failure keeps what it says") {
    const auto ours = as_failure(make_error_code({step::chdir, ENOENT}), step::wait);
    CHECK(ours.step == step::chdir);
    CHECK(ours.error_number == ENOENT);
    const auto of_system = as_failure({EBUSY, boost::system::system_category()}, step::wait);
    CHECK(of_system.message() == "wait: Device or resource busy (EBUSY)");
    const auto foreign = as_failure(boost::asio::error::already_open, step::request);
    CHECK(foreign.error_number == 0);
    CHECK(foreign.message() == "request: asio.misc: Already open");
    CHECK(spawn_error(foreign).code());
    CHECK(std::string(spawn_error(foreign).what()).find("EPERM") == std::string::npos);
}

TEST_CASE("an exception that is no spawn_error keeps the errno of its code, and no other") {
    const auto of = [](const auto& e) { return failure_of(std::make_exception_ptr(e)); };
    CHECK(of(std::system_error(ENOSPC, std::system_category())).error_number == ENOSPC);
    CHECK(of(boost::system::system_error(boost::asio::error::eof)).error_number == 0);
    CHECK(of(boost::system::system_error(make_error_code({step::exec, EACCES}))).error_number ==
          EACCES);
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
