// The forkserver's end of a socket pair, played by the test: for what the real
// one cannot be made to do.
#pragma once

#include <doctest/doctest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>
#include <string>
#include <thread>

#include "client/src/requests/handshake.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/identity.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/identity_message.hpp"
#include "ipc/wire/limits.hpp"
#include "ipc/wire/message.hpp"
#include "tests/helpers/patience.hpp"

namespace cleanfork::test {

using request = ipc::decoded<v1::ClientMessage>;

class peer {
public:
    peer() {
        auto pair = ipc::seqpacket_pair().value();
        ours_ = std::move(pair.first);
        theirs_ = std::move(pair.second);
    }
    unique_fd take_client_end() { return std::move(theirs_); }
    int socket() const { return ours_.get(); }

    // The next message; a body without any when the client has closed.
    request next() {
        for (;;) {
            ipc::received r = receiver_.receive(ours_.get());
            if (r.status == ipc::receive_status::packet)
                return std::move(ipc::decode_client_message(std::move(r))).value();
            if (r.status != ipc::receive_status::would_block) return {};
            pollfd p{ours_.get(), POLLIN, 0};
            ::poll(&p, 1, -1);
        }
    }
    void send(const v1::ServerMessage& m, std::vector<int> fds = {}) {
        const ipc::encoded e = ipc::encode(m).value();
        while (ipc::send(ours_.get(), e, fds) == ipc::send_status::would_block) {
            pollfd p{ours_.get(), POLLOUT, 0};
            ::poll(&p, 1, -1);
        }
    }
    void send_raw(std::string_view bytes) { ipc::send_packet(ours_.get(), bytes, {}); }
    void close() { ours_.reset(); }

    void answer_hello(bool exit_info = true, std::uint32_t protocol = ipc::k_protocol_version) {
        const request hello = next();
        v1::ServerMessage m;
        m.set_request_id(hello.message.request_id());
        m.mutable_hello()->set_protocol(protocol);
        m.mutable_hello()->set_instance("0123456789abcdef0123456789abcdef");
        m.mutable_hello()->set_pid(4711);
        const ipc::identity& self = ipc::own_identity();
        ipc::to_wire(self.rights, *m.mutable_hello()->mutable_rights());
        ipc::to_wire(self.place, *m.mutable_hello()->mutable_place());
        ipc::to_wire(self.conduct, *m.mutable_hello()->mutable_conduct());
        if (exit_info) m.mutable_hello()->add_features(v1::FEATURE_PIDFD_EXIT_INFO);
        send(m);
    }
    void answer_spawn(std::uint64_t request_id, std::uint64_t child, int pid, int pidfd) {
        v1::ServerMessage m;
        m.set_request_id(request_id);
        v1::Spawned& s = *m.mutable_spawn()->mutable_spawned();
        s.set_child(child);
        s.set_pid(pid);
        s.set_pidfd_descriptor(1);
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_PIDFD);
        send(m, {pidfd});
    }
    void tell_exit(std::uint64_t child, std::uint32_t code) {
        v1::ServerMessage m;
        v1::Exit& e = *m.mutable_exits()->add_exits();
        e.set_child(child);
        e.set_code(code);
        send(m);
    }

private:
    unique_fd ours_, theirs_;
    ipc::receiver receiver_;
};

// A client greeted by `p`.
inline client greeted_client(peer& p, boost::asio::any_io_executor executor = {},
                             bool exit_info = true) {
    std::thread answering([&] { p.answer_hello(exit_info); });
    auto c = detail::greet(p.take_client_end(), std::move(executor), {});
    answering.join();
    REQUIRE(c.has_value());
    return std::move(*c);
}

// A child of the test that runs `shell`; killed and reaped at the end at the latest.
class own_child {
public:
    explicit own_child(const char* shell) {
        char sh[] = "sh", c[] = "-c";
        std::string command = shell;
        char* argv[] = {sh, c, command.data(), nullptr};
        REQUIRE(::posix_spawn(&pid_, "/bin/sh", nullptr, nullptr, argv, environ) == 0);
        pidfd_ = ipc::pidfd_open(pid_);
        REQUIRE(pidfd_);
    }
    own_child(const own_child&) = delete;
    own_child& operator=(const own_child&) = delete;
    ~own_child() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        reap();
    }
    int reap() {
        int status = 0;
        ::waitpid(std::exchange(pid_, 0), &status, 0);
        return status;
    }
    int pid() const { return pid_; }
    int pidfd() const { return pidfd_.get(); }
    bool ended() const {
        return ipc::pidfd_wait(pidfd_.get(), ipc::pidfd_event::ended, k_patience_ms);
    }

private:
    pid_t pid_ = 0;
    unique_fd pidfd_;
};

}  // namespace cleanfork::test
