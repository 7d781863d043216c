// A session on the wire itself: packets as they are, well-formed or not.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <chrono>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/wire/message.hpp"
#include "ipc/wire/packet.hpp"
#include "tests/integration/hostile/hostile_daemon.hpp"

namespace cleanfork::testing {

using reply = ipc::decoded<v1::ServerMessage>;

struct live_child {
    std::uint64_t id = 0;
    pid_t pid = 0;
    unique_fd pidfd;
};

// A request to run argv[0], an absolute path, with nothing special about it.
v1::SpawnRequest program(std::initializer_list<std::string> argv);
// A shell script.
v1::SpawnRequest shell(std::string script);
// A program that waits for a signal.
v1::SpawnRequest sleeper();
// Maps descriptor `index` of the packet (counted from 1) to `target` of the child.
void map_descriptor(v1::SpawnRequest& r, std::uint32_t index, int target);

class raw_session {
public:
    // Takes a connected socket.
    explicit raw_session(unique_fd socket) : socket_(std::move(socket)) {}
    // Connects and exchanges hellos.
    explicit raw_session(const test_daemon& daemon);

    [[nodiscard]] int socket() const noexcept { return socket_.get(); }
    void close() { socket_.reset(); }

    // ---- packets
    // One packet as it is; 0 or errno. Does not wait for room.
    [[nodiscard]] int send_bytes(std::string_view bytes, std::span<const int> fds = {}) const;
    // Waits for room; false when the daemon has closed. The id of the request is set when 0.
    bool send(v1::ClientMessage m, std::span<const int> fds = {});
    // The next packet; empty when the daemon has closed.
    std::optional<reply> receive();
    // True once the daemon has closed; what it said before is in last_failure.
    bool ends();

    // ---- requests
    v1::HelloReply hello();
    // The reply to a request; exits that come before it are kept. Fails the test when there is
    // none.
    reply request(v1::ClientMessage m, std::span<const int> fds = {});
    reply reply_to(std::uint64_t request_id);
    std::uint64_t next_id() { return ++last_id_; }

    // Sends the request; its reply is for reply_to().
    std::uint64_t post_spawn(const v1::SpawnRequest& r, std::span<const int> fds = {});
    v1::SpawnReply try_spawn(const v1::SpawnRequest& r, std::span<const int> fds = {});
    live_child spawn(const v1::SpawnRequest& r, std::span<const int> fds = {});
    // The failure of a spawn that must fail.
    failure spawn_failure(const v1::SpawnRequest& r, std::span<const int> fds = {});
    // Runs /bin/true to its end: the daemon serves this session.
    void spawn_true();

    v1::Exit await_exit(std::uint64_t child);
    void acknowledge(std::initializer_list<std::uint64_t> children);
    v1::StatsReply stats();
    v1::ListReply list();
    // Asks until `enough` says so: each answer is a turn of the daemon's loop.
    template <class Enough>
    v1::StatsReply stats_until(Enough enough);

    // Exits told so far and not yet looked at, by child.
    std::map<std::uint64_t, v1::Exit> exits;
    // Requests refused with RESOURCE_EXHAUSTED.
    std::size_t refusals = 0;
    // The last failure the daemon gave to no request: why it closed.
    failure last_failure;

private:
    void note(const v1::ServerMessage& m);
    static void fail_now(const v1::StatsReply& s);

    unique_fd socket_;
    ipc::receiver receiver_;
    std::uint64_t last_id_ = 0;
    std::map<std::uint64_t, reply> others_;  // that came before the one that was waited for
};

// The failure a reply holds, of the request or of the spawn; step::none when it holds none.
failure failure_in(const reply& r);

template <class Enough>
v1::StatsReply raw_session::stats_until(Enough enough) {
    const auto give_up = std::chrono::steady_clock::now() + k_patience;
    for (;;) {
        v1::StatsReply s = stats();
        if (enough(s)) return s;
        if (std::chrono::steady_clock::now() > give_up) {
            fail_now(s);
            return s;
        }
    }
}

// What the daemon has at rest; to be had again after whatever was done to it.
class baseline {
public:
    // `observer` stays open throughout.
    explicit baseline(raw_session& observer) : observer_(observer), before_(observer.stats()) {}
    // Waits for the sessions, children and descriptors of before; then compares the memory,
    // of which the allocator keeps some.
    void expect_again();

private:
    raw_session& observer_;
    v1::StatsReply before_;
};

}  // namespace cleanfork::testing
