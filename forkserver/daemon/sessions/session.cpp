#include "forkserver/daemon/sessions/session.hpp"

#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <chrono>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::daemon {

namespace {

// After this many packets the others get their turn.
constexpr int k_packets_a_turn = 16;
// Large ones take their time.
constexpr std::uint64_t k_turn_ns = 2'000'000;
constexpr std::size_t k_exits_a_packet = 512;
// The kernel tells nobody when descriptors in flight (ETOOMANYREFS) or buffers
// (ENOBUFS) are to be had again.
constexpr std::chrono::milliseconds k_retry_after{10};

bool passes(int e) noexcept { return e == ETOOMANYREFS || e == ENOBUFS || e == ENOMEM; }

}  // namespace

session::session(boost::asio::io_context& io, unique_fd socket, session_id id, session_owner& owner)
    : socket_(io, socket.release()), retry_(io), id_(id), owner_(owner) {}

bool session::congested() const noexcept { return queue_.size() >= ipc::k_max_unsent_packets; }

void session::read() {
    if (reading_ || ended_ || congested()) return;
    reading_ = true;
    socket_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                       [self = shared_from_this()](boost::system::error_code ec) {
                           self->reading_ = false;
                           if (!ec && !self->ended_) self->read_turn();
                       });
}

void session::read_turn() {
    const std::uint64_t began = ipc::monotonic_ns();
    for (int i = 0;
         i < k_packets_a_turn && !ended_ && !congested() && ipc::monotonic_ns() - began < k_turn_ns;
         ++i) {
        ipc::received packet = receiver_.receive(socket_.native_handle());
        const bool more = read_packet(packet);
        if (!packet.descriptors.empty()) owner_.dispose(std::move(packet.descriptors));
        if (!more) break;
    }
    owner_.on_turn_end();
    read();
}

// False when there is nothing more to read. What is left of its descriptors is not needed.
bool session::read_packet(ipc::received& packet) {
    if (packet.status == ipc::receive_status::would_block) return false;
    if (packet.status == ipc::receive_status::closed) {
        end(ipc::fail(step::none, 0, {}, "the client has closed"));
        return false;
    }
    if (packet.status == ipc::receive_status::malformed && refuse(packet.body)) return true;
    if (packet.status != ipc::receive_status::packet) {
        end(ipc::fail(step::protocol, packet.error_number, "packet",
                      "the packet or its descriptors were cut, or too many"));
        return false;
    }
    auto message = ipc::decode_client_message(std::move(packet));
    if (!message) {
        end(message.error());
        return false;
    }
    owner_.on_message(*this, *message);
    packet.descriptors = std::move(message->descriptors);
    return true;
}

// The kernel has cut a request's descriptors because this process may have no more. It is
// not the client's fault, who may have nobody else to ask.
bool session::refuse(std::string_view body) {
    v1::ClientMessage m;
    if (body.empty() || !m.ParseFromArray(body.data(), static_cast<int>(body.size())) ||
        m.request_id() == 0)
        return false;
    send_failure(request_id(m.request_id()),
                 ipc::fail(step::quota, EMFILE, "descriptors",
                           "RESOURCE_EXHAUSTED: the forkserver may have no more, and the request's "
                           "were cut: raise its RLIMIT_NOFILE"));
    return true;
}

void session::send(const v1::ServerMessage& message, std::span<const int> descriptors) {
    if (ended_ || failing_) return;
    auto e = ipc::encode(message);
    if (!e) {
        // Too large, or no descriptor or memory for a large body: the caller learns that instead.
        if (message.request_id() != 0 && !message.has_failure())
            send_failure(request_id(message.request_id()), e.error());
        return;
    }
    if (queue_.empty() && transmit(*e, descriptors)) return;
    outgoing later{std::move(*e), {}};
    for (const int fd : descriptors) {
        later.descriptors.push_back(ipc::dup_fd(fd));
        if (!later.descriptors.back())
            return end_later(ipc::fail(step::prepare, errno, "descriptor"));
    }
    queue_.push_back(std::move(later));
    await_room();
}

void session::send_failure(request_id request, const failure& f) {
    v1::ServerMessage m;
    m.set_request_id(request.value());
    ipc::to_wire(f, *m.mutable_failure());
    send(m);
}

bool session::transmit(const ipc::encoded& e, std::span<const int> descriptors) {
    switch (ipc::send(socket_.native_handle(), e, descriptors)) {
        case ipc::send_status::sent: return true;
        case ipc::send_status::would_block: room_is_announced_ = true; return false;
        case ipc::send_status::closed:
            // What the client sent before it closed is still to be read, and its
            // end is: the reader ends the session.
            return true;
        case ipc::send_status::failed: break;
    }
    const int error = errno;
    if (passes(error)) {
        room_is_announced_ = false;
        return false;
    }
    end_later(ipc::fail(step::protocol, error, "packet", "it could not be sent"));
    return true;
}

void session::flush_exits() {
    if (ended_ || exits_.empty()) return;
    if (!flush_queue() || !send_exits()) await_room();
}

bool session::flush_queue() {
    while (!queue_.empty() && !ended_ && !failing_) {
        int fds[ipc::k_max_descriptors];
        std::size_t n = 0;
        for (const unique_fd& fd : queue_.front().descriptors) fds[n++] = fd.get();
        if (!transmit(queue_.front().message, {fds, n})) return false;
        queue_.pop_front();
    }
    return true;
}

bool session::send_exits() {
    while (!exits_.empty() && !ended_ && !failing_) {
        v1::ServerMessage m;
        const std::size_t n = std::min(exits_.size(), k_exits_a_packet);
        for (std::size_t i = 0; i < n; ++i) *m.mutable_exits()->add_exits() = exits_[i];
        const auto e = ipc::encode(m);
        if (!e || !transmit(*e, {})) return false;
        exits_.erase(exits_.begin(), exits_.begin() + static_cast<std::ptrdiff_t>(n));
    }
    return true;
}

void session::await_room() {
    if (awaiting_room_ || ended_) return;
    awaiting_room_ = true;
    const auto then = [self = shared_from_this()](boost::system::error_code ec) {
        self->awaiting_room_ = false;
        if (!ec && !self->ended_) self->write_turn();
    };
    if (!room_is_announced_) {
        retry_.expires_after(k_retry_after);
        retry_.async_wait(then);
    } else {
        socket_.async_wait(boost::asio::posix::descriptor_base::wait_write, then);
    }
}

void session::write_turn() {
    if (!flush_queue() || !send_exits()) await_room();
    read();
}

// The owner is in the midst of what it sends: the child it speaks of must not
// go with the session under its hands.
void session::end_later(failure why) {
    failing_ = true;
    boost::asio::post(socket_.get_executor(),
                      [self = shared_from_this(), f = std::move(why)] { self->end(f); });
}

void session::end(const failure& why) {
    if (ended_) return;
    const auto self = shared_from_this();
    if (why.step != step::none) {
        v1::ServerMessage m;
        ipc::to_wire(why, *m.mutable_failure());
        if (const auto e = ipc::encode(m)) ipc::send(socket_.native_handle(), *e, {});
    }
    ended_ = true;
    close();
    retry_.cancel();
    queue_.clear();
    exits_.clear();
    owner_.on_end(*this, why);
}

// With the socket goes what is in its queue, and descriptors with that: whose close may wait as
// that of any other of a client. After the shutdown nothing more can come into the queue. Each
// packet names its sender, for which this has no room; the end does not.
void session::close() {
    unique_fd socket(socket_.release());
    ::shutdown(socket.get(), SHUT_RDWR);
    msghdr nothing{};
    const bool empty = ::recvmsg(socket.get(), &nothing, MSG_PEEK | MSG_DONTWAIT) == 0 &&
                       (nothing.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) == 0;
    if (empty) return;
    std::vector<unique_fd> full;
    full.push_back(std::move(socket));
    owner_.dispose(std::move(full));
}

}  // namespace cleanfork::daemon
