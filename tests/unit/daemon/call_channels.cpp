// Channels of calls: used again once their child runs, and never when it did not.
#include "forkserver/daemon/templates/call_channels.hpp"

#include <doctest/doctest.h>
#include <poll.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "ipc/base/fd.hpp"
#include "ipc/base/features.hpp"
#include "ipc/wire/packet.hpp"

using namespace cleanfork;
using namespace cleanfork::daemon;

namespace {

struct kept_for_disposal final : spawn::disposal {
    std::vector<unique_fd> all;
    void dispose(std::vector<unique_fd> fds) noexcept override {
        for (unique_fd& fd : fds) all.push_back(std::move(fd));
    }
};

struct scene {
    scene() {
        auto made = spawn::launcher::create(ipc::probe_features(), 1024);
        REQUIRE(made.has_value());
        launcher.emplace(std::move(*made));
        launcher->dispose_by(disposed);
        channels.emplace(*launcher);
        channels->prepare();
    }
    call_channel take() {
        auto c = channels->take();
        REQUIRE(c.has_value());
        return std::move(*c);
    }

    std::shared_ptr<kept_for_disposal> disposed = std::make_shared<kept_for_disposal>();
    std::optional<spawn::launcher> launcher;
    std::optional<call_channels> channels;
};

void send(const call_channel& c) {
    REQUIRE(ipc::send_packet(c.ours(), "a request", {}) == ipc::send_status::sent);
}

}  // namespace

TEST_CASE("the pair of a child that has taken its request is the next one's") {
    scene s;
    call_channel first = s.take();
    send(first);
    const ino_t inode = first.childs_inode();
    CHECK(inode != 0);
    ipc::receiver child;
    CHECK(child.receive(first.childs()).body == "a request");
    s.channels->give_back(std::move(first));
    const call_channel second = s.take();
    CHECK(second.childs_inode() == inode);
    CHECK(child.receive(second.childs()).status == ipc::receive_status::would_block);
    CHECK(s.take().childs_inode() != inode);  // two at once
}

TEST_CASE("a child that is not wanted sees the end, and what it has not taken is for disposal") {
    scene s;
    std::optional<call_channel> c = s.take();
    send(*c);
    const ino_t inode = c->childs_inode();
    const unique_fd childs = ipc::dup_fd(c->childs());
    c.reset();
    pollfd p{childs.get(), 0, 0};
    CHECK(::poll(&p, 1, 0) == 1);
    CHECK((p.revents & POLLHUP) != 0);
    CHECK(s.disposed->all.size() == 1);
    CHECK(s.take().childs_inode() != inode);
}

TEST_CASE("a warm child's own end is closed here, and the pair is not used again") {
    scene s;
    unique_fd ours;
    {
        auto made = s.channels->make();
        REQUIRE(made.has_value());
        ours = std::move(*made).take_ours();
    }
    CHECK(s.disposed->all.empty());
    CHECK(ipc::send_packet(ours.get(), "x", {}) == ipc::send_status::closed);
    s.channels->give_back(call_channel(std::move(ours)));
    CHECK(s.take().childs() >= 0);
}
