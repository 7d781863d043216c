// Packets on a socket pair: whole or refused, and no descriptor is lost.
#include "ipc/wire/packet.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "ipc/base/fd.hpp"
#include "ipc/wire/limits.hpp"

using namespace cleanfork;
using namespace cleanfork::ipc;

namespace {

socket_pair connected() {
    auto pair = seqpacket_pair();
    REQUIRE(pair.has_value());
    return std::move(*pair);
}

struct wire {
    socket_pair pair = connected();
    receiver reader;
    unique_fd null{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
    std::size_t before = open_descriptor_count();

    received receive() { return reader.receive(pair.second.get()); }
    [[nodiscard]] std::vector<int> nulls(std::size_t n) const {
        return std::vector<int>(n, null.get());
    }
    // Past the bounds of send_packet().
    [[nodiscard]] int send_raw(std::string_view body, const std::vector<int>& fds) const {
        const std::size_t bytes = fds.size() * sizeof(int);
        std::vector<char> control(CMSG_SPACE(bytes));
        iovec part{const_cast<char*>(body.data()), body.size()};
        msghdr m{};
        m.msg_iov = &part;
        m.msg_iovlen = 1;
        m.msg_control = control.data();
        m.msg_controllen = control.size();
        cmsghdr* c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(bytes);
        std::memcpy(CMSG_DATA(c), fds.data(), bytes);
        return ::sendmsg(pair.first.get(), &m, MSG_NOSIGNAL) >= 0 ? 0 : errno;
    }
};

// Leaves room for `free` more descriptors.
class descriptor_limit {
public:
    explicit descriptor_limit(int free) {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        const unique_fd next(::fcntl(0, F_DUPFD_CLOEXEC, 0));
        const rlimit now{static_cast<rlim_t>(next.get() + free), before_.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, &now);
    }
    ~descriptor_limit() { ::setrlimit(RLIMIT_NOFILE, &before_); }
    descriptor_limit(const descriptor_limit&) = delete;
    descriptor_limit& operator=(const descriptor_limit&) = delete;

private:
    rlimit before_{};
};

}  // namespace

TEST_CASE("a packet arrives whole, with its descriptors, which do not survive an exec") {
    wire w;
    REQUIRE(send_packet(w.pair.first.get(), "hello", w.nulls(3)) == send_status::sent);
    const received r = w.receive();
    REQUIRE(r.status == receive_status::packet);
    CHECK(r.body == "hello");
    REQUIRE(r.descriptors.size() == 3);
    for (const unique_fd& fd : r.descriptors) CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("nothing there, and nobody there, are told apart") {
    wire w;
    CHECK(w.receive().status == receive_status::would_block);
    w.pair.first.reset();
    CHECK(w.receive().status == receive_status::closed);
    CHECK(w.receive().status == receive_status::closed);
}

TEST_CASE("what was sent before the close is received before it") {
    wire w;
    send_packet(w.pair.first.get(), "last words", {});
    w.pair.first.reset();
    CHECK(w.receive().body == "last words");
    CHECK(w.receive().status == receive_status::closed);
}

TEST_CASE("what was sent before the close is received when the other end left packets unread") {
    wire w;
    send_packet(w.pair.first.get(), "last words", w.nulls(1));
    send_packet(w.pair.second.get(), "never read", {});
    w.pair.first.reset();
    const received r = w.receive();
    CHECK(r.status == receive_status::packet);
    CHECK(r.body == "last words");
    CHECK(r.descriptors.size() == 1);
    CHECK(w.receive().status == receive_status::closed);
}

TEST_CASE("a body of 64 KiB arrives; one byte more is malformed") {
    wire w;
    REQUIRE(send_packet(w.pair.first.get(), std::string(k_max_inline_body, 'x'), {}) ==
            send_status::sent);
    CHECK(w.receive().body.size() == k_max_inline_body);
    REQUIRE(send_packet(w.pair.first.get(), std::string(k_max_inline_body + 1, 'x'), {}) ==
            send_status::sent);
    CHECK(w.receive().status == receive_status::malformed);
    REQUIRE(send_packet(w.pair.first.get(), std::string(2 * k_max_inline_body, 'x'), {}) ==
            send_status::sent);
    CHECK(w.receive().status == receive_status::malformed);
    CHECK(w.receive().status == receive_status::would_block);
}

TEST_CASE("64 descriptors arrive; 65 are malformed, and all of them are closed") {
    wire w;
    REQUIRE(send_packet(w.pair.first.get(), "x", w.nulls(k_max_descriptors)) == send_status::sent);
    CHECK(w.receive().descriptors.size() == k_max_descriptors);
    for (const std::size_t n : {k_max_descriptors + 1, std::size_t{128}, std::size_t{253}}) {
        REQUIRE(w.send_raw("x", w.nulls(n)) == 0);
        CHECK(w.receive().status == receive_status::malformed);
        CHECK(open_descriptor_count() == w.before);
    }
    // The kernel's own bound.
    CHECK(w.send_raw("x", w.nulls(254)) == EINVAL);
    CHECK(w.send_raw("x", w.nulls(300)) == EINVAL);
}

TEST_CASE("send_packet refuses more than 64 descriptors itself") {
    wire w;
    CHECK(send_packet(w.pair.first.get(), "x", w.nulls(k_max_descriptors + 1)) ==
          send_status::failed);
    CHECK(errno == EINVAL);
    CHECK(w.receive().status == receive_status::would_block);
}

TEST_CASE(
    "near RLIMIT_NOFILE a packet whose descriptors are cut has those that there was room for") {
    wire w;
    for (const int free : {0, 1, 5, 15}) {
        REQUIRE(send_packet(w.pair.first.get(), "x", w.nulls(16)) == send_status::sent);
        received r;
        {
            const descriptor_limit limit(free);
            r = w.receive();
        }
        CHECK(r.status == receive_status::malformed);
        CHECK(r.error_number == EMFILE);
        CHECK(r.descriptors.size() < 16);
        r.descriptors.clear();
        CHECK(open_descriptor_count() == w.before);
    }
}

TEST_CASE("an empty packet is the end, and what came with it is closed") {
    wire w;
    REQUIRE(w.send_raw("", w.nulls(2)) == 0);
    CHECK(w.receive().status == receive_status::closed);
    CHECK(open_descriptor_count() == w.before);
}

TEST_CASE("a full socket would block, and takes the packet once there is room") {
    wire w;
    std::size_t sent = 0;
    send_status s;
    while ((s = send_packet(w.pair.first.get(), std::string(1000, 'x'), {})) == send_status::sent)
        ++sent;
    CHECK(s == send_status::would_block);
    CHECK(sent > 0);
    CHECK(w.receive().body.size() == 1000);
    CHECK(send_packet(w.pair.first.get(), "y", {}) == send_status::sent);
}

TEST_CASE("sending to a peer that has gone is `closed`, and no signal comes") {
    wire w;
    w.pair.second.reset();
    CHECK(send_packet(w.pair.first.get(), "x", w.nulls(1)) == send_status::closed);
}

TEST_CASE("a descriptor that is none, or a socket that is none, is a failure with its errno") {
    wire w;
    const int bad[] = {-1};
    CHECK(send_packet(w.pair.first.get(), "x", bad) == send_status::failed);
    CHECK(errno == EBADF);
    const received r = w.reader.receive(w.null.get());
    CHECK(r.status == receive_status::failed);
    CHECK(r.error_number == ENOTSOCK);
}
