// Log lines: one a call, unforgeable, never waited for.
#include "forkserver/daemon/log.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cleanfork/unique_fd.hpp>
#include <string>

using namespace cleanfork;
using namespace cleanfork::daemon;

namespace {

// Standard error is a pipe while this lives.
class captured {
public:
    captured() : before_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) {
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == 0);
        out_.reset(ends[0]);
        in_.reset(ends[1]);
        // Of its own, and one that waits: as a forkserver has been given it.
        const std::string path = "/proc/self/fd/" + std::to_string(ends[1]);
        const unique_fd waiting(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
        REQUIRE(waiting);
        ::dup2(waiting.get(), STDERR_FILENO);
    }
    ~captured() { ::dup2(before_.get(), STDERR_FILENO); }
    captured(const captured&) = delete;
    captured& operator=(const captured&) = delete;

    std::string take() {
        std::string text;
        std::array<char, 4096> part;
        for (ssize_t n; (n = ::read(out_.get(), part.data(), part.size())) > 0;)
            text.append(part.data(), static_cast<std::size_t>(n));
        return text;
    }
    template <std::size_t Size>
    ssize_t read(std::array<char, Size>& part) const {
        return ::read(out_.get(), part.data(), part.size());
    }
    void fill() const {
        const std::array<char, 4096> zeros{};
        while (::write(in_.get(), zeros.data(), zeros.size()) > 0) {
        }
        while (::write(in_.get(), zeros.data(), 1) > 0) {
        }
    }

private:
    unique_fd before_, out_, in_;
};

std::string after_time(const std::string& line) { return line.substr(line.find(" level=") + 1); }

}  // namespace

TEST_CASE("a line has time, level, event and pairs") {
    captured err;
    logger log(log_level::info);
    log.info("began", {{"n", std::uint64_t{18'446'744'073'709'551'615U}},
                       {"i", std::int64_t{-5}},
                       {"text", "plain"}});
    const std::string line = err.take();
    CHECK(line.starts_with("time=20"));
    CHECK(after_time(line) == "level=info event=began n=18446744073709551615 i=-5 text=plain\n");
}

TEST_CASE("what is below the level is not written") {
    captured err;
    logger log(log_level::warning);
    log.debug("a");
    log.info("b");
    CHECK(err.take().empty());
    log.warning("c");
    log.error("d");
    const std::string text = err.take();
    CHECK(text.find("event=c") != std::string::npos);
    CHECK(text.find("level=error event=d") != std::string::npos);
}

TEST_CASE("a value chosen by a peer cannot forge a line or a pair") {
    captured err;
    logger log(log_level::info);
    log.info("e", {{"v", "x\nlevel=error event=forged"}});
    CHECK(after_time(err.take()) == "level=info event=e v=\"x\\x0alevel=error event=forged\"\n");
    log.info("e", {{"v", "a\" b=\"c"}});
    CHECK(after_time(err.take()) == "level=info event=e v=\"a\\\" b=\\\"c\"\n");
    log.info("e", {{"v", "back\\slash"}});
    CHECK(after_time(err.take()) == "level=info event=e v=\"back\\\\slash\"\n");
    log.info("e", {{"v", ""}});
    CHECK(after_time(err.take()) == "level=info event=e v=\"\"\n");
    log.info("e", {{"v", std::string_view("\x1b[31m\x7f\0", 7)}});
    CHECK(after_time(err.take()) == "level=info event=e v=\"\\x1b[31m\\x7f\\x00\"\n");
}

TEST_CASE("lines for which there is no room are counted, and the next one tells") {
    captured err;
    logger log(log_level::info);
    err.fill();
    log.info("lost");
    log.info("lost");
    err.take();
    log.info("kept");
    CHECK(after_time(err.take()) == "level=info event=kept dropped_before=2\n");
    log.info("next");
    CHECK(after_time(err.take()) == "level=info event=next\n");
}

namespace {

// All but one page of the pipe, which so has room and yet not enough.
void fill_but_a_page(captured& err) {
    err.fill();
    std::array<char, 4096> page{};
    REQUIRE(err.read(page) == 4096);
}

const std::string k_long(20'000, 'x');

}  // namespace

TEST_CASE("a line longer than the room in a pipe whose reader sleeps is not waited for") {
    for (const bool attached : {false, true}) {
        CAPTURE(attached);
        captured err;
        logger log(log_level::info);
        if (attached) log.output().attach();
        fill_but_a_page(err);
        log.info("long", {{"v", k_long}});  // this waited for ever
        log.info("lost");
        err.take();
        log.info("next");
        // The rest of what was begun, whole, then what came after it.
        const std::string text = err.take();
        CHECK(text.find("xxx") == 0);
        CHECK(text.find("level=info event=next dropped_before=1\n") != std::string::npos);
        CHECK(text.find("event=lost") == std::string::npos);
    }
}

TEST_CASE("a long line with room for it comes whole") {
    for (const bool attached : {false, true}) {
        captured err;
        logger log(log_level::info);
        if (attached) log.output().attach();
        log.info("long", {{"v", k_long}});
        CHECK(after_time(err.take()) == "level=info event=long v=" + k_long + "\n");
    }
}

TEST_CASE("the pipe that a forkserver logs to stays as its other writers have it") {
    captured err;
    logger log(log_level::info);
    log.output().attach();
    log.info("e");
    CHECK((::fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK) == 0);
}

TEST_CASE("a socket whose reader sleeps is not waited for") {
    captured err;
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    const unique_fd ours(ends[0]), theirs(ends[1]);
    ::dup2(theirs.get(), STDERR_FILENO);
    logger log(log_level::info);
    log.output().attach();
    for (int i = 0; i < 1000; ++i) log.info("long", {{"v", k_long}});
    CHECK(::close(STDERR_FILENO) == 0);
}
