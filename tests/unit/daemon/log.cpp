// Log lines: one a call, unforgeable, never waited for.
#include "forkserver/daemon/log.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cleanfork/unique_fd.hpp>

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
        ::dup2(in_.get(), STDERR_FILENO);
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
