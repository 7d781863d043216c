// gRPC on both sides of a spawn: parent and children serve and call each other, each
// through channels of its own, while more children are started.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>

#include <cleanfork/client.hpp>
#include <thread>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "tests/grpc/echo.hpp"
#include "tests/helpers/patience.hpp"

using namespace cleanfork;
using namespace cleanfork::test;
using namespace std::chrono_literals;

namespace {

const auto k_hang = 5 * k_patience;  // longer than all of it can take

struct pipe_ends {
    unique_fd read, write;
    pipe_ends() {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        read.reset(ends[0]);
        write.reset(ends[1]);
    }
};

// What a child writes to `fd`; empty when it writes nothing in time.
std::string line_from(int fd) {
    pollfd ready{fd, POLLIN, 0};
    char text[100];
    if (::poll(&ready, 1, k_patience_ms) != 1) return "";
    const ssize_t size = ::read(fd, text, sizeof text);
    return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : "";
}

// One child, and the thread of this program that talks to it.
class partner {
public:
    partner(const client& c, const std::string& parent, unsigned calls) : calls_(calls) {
        pipe_ends address, end;
        child_ = c.call("t", "both_sides", {},
                        {.args = {parent, std::to_string(calls)},
                         .fds = {{"address", address.write.get()}, {"end", end.read.get()}},
                         .result = true},
                        k_hang);
        address_ = std::move(address.read);
        end_ = std::move(end.write);
        thread_ = std::jthread([this, parent] { talk(parent); });
    }

    // The calls of both sides that were answered rightly.
    unsigned finish() {
        thread_.join();
        CHECK(complaint_ == "");
        end_.reset();  // the child's server is needed no more
        const auto status = child_.wait_for(k_hang);
        CHECK(status == exit_status::exited(0));
        if (!status) child_.terminate();
        CHECK(child_.error() == "");
        const std::string answer = read_result(child_.take_result().get());
        return answered_ + (answer.empty() ? 0 : static_cast<unsigned>(std::stoul(answer)));
    }

private:
    void talk(const std::string& parent) {
        const std::string child = line_from(address_.get());
        if (child.empty()) {
            complaint_ = "the child does not say where it listens";
            return;
        }
        echo_caller to_child(child), to_self(parent);
        for (unsigned i = 0; i < calls_ && complaint_.empty(); ++i) {
            for (echo_caller* caller : {&to_child, &to_self}) {
                const std::string wrong = caller->call(i);
                if (wrong.empty())
                    ++answered_;
                else
                    complaint_ = wrong;
            }
        }
    }

    const unsigned calls_;
    process child_;
    unique_fd address_, end_;
    unsigned answered_ = 0;
    std::string complaint_;
    std::jthread thread_;
};

void talk_to_children(unsigned children, unsigned calls) {
    const client c = launch();
    c.add_template("t", {.process = {.program = CLEANFORK_TEST_HELPER_DIR "/template_grpc"}});
    const echo_server server;
    // From before the children, and used after they are there.
    echo_caller before(server.address());
    REQUIRE(before.call(0) == "");
    const std::size_t descriptors = ipc::open_descriptor_count();

    std::vector<std::unique_ptr<partner>> partners;
    for (unsigned i = 0; i < children; ++i)
        partners.push_back(std::make_unique<partner>(c, server.address(), calls));
    unsigned answered = 0;
    for (unsigned i = 0; i < calls; ++i) CHECK(before.call(i) == "");
    for (const auto& p : partners) answered += p->finish();
    partners.clear();

    // The child calls its parent; the parent calls the child, and itself.
    CHECK(answered == 3 * children * calls);
    MESSAGE((answered + calls), " calls answered, of parent and ", children, " children");
    // gRPC's own come and go.
    CHECK(ipc::open_descriptor_count() <= descriptors + 3 * children);
    CHECK(c.stats().children == 1);  // the template
}

}  // namespace

TEST_CASE("parent and children use gRPC after the spawn, through channels of their own") {
    talk_to_children(4, 100);
}

TEST_CASE("parent and children make a hundred thousand calls after the spawn" *
          doctest::test_suite("soak") * doctest::skip()) {
    talk_to_children(8, 4'200);
}
