// The end of what a template writes.
#include "forkserver/daemon/templates/output_tail.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <string>

using namespace cleanfork;
using namespace cleanfork::daemon;

namespace {

struct pipe_ends {
    unique_fd reading, writing;
};

pipe_ends make_pipe() {
    int fds[2];
    REQUIRE(::pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
    return {unique_fd(fds[0]), unique_fd(fds[1])};
}

void write_all(const unique_fd& fd, const std::string& text) {
    REQUIRE(::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

}  // namespace

TEST_CASE("the last 4 KiB are kept") {
    event_loop io;
    pipe_ends p = make_pipe();
    output_tail tail(io, std::move(p.reading));
    write_all(p.writing, std::string(5000, 'a'));
    write_all(p.writing, "the end");
    CHECK(tail.drain());
    CHECK(tail.text() == std::string(4096 - 7, 'a') + "the end");
}

TEST_CASE("it is read as it comes, and to its end") {
    event_loop io;
    pipe_ends p = make_pipe();
    output_tail tail(io, std::move(p.reading));
    write_all(p.writing, "one ");
    CHECK(io.run_once());
    CHECK(tail.text() == "one ");
    write_all(p.writing, "two");
    p.writing.reset();
    io.run();
    CHECK(tail.text() == "one two");
    CHECK_FALSE(tail.drain());
}

TEST_CASE("a template without output has an empty tail") {
    event_loop io;
    output_tail tail(io, unique_fd());
    CHECK_FALSE(tail.drain());
    CHECK(tail.text().empty());
    io.run();  // which has nothing to wait for
}
