#include "forkserver/daemon/sessions/session.hpp"

#include <chrono>
#include <utility>

#include "forkserver/daemon/loop/boundary.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/socket_peer.hpp"
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

// Of what came from the client, the descriptors that nobody has taken, whatever becomes of the
// rest: they are not closed here.
class leftovers {
public:
    leftovers(session_owner& owner, std::vector<unique_fd>& fds) : owner_(owner), fds_(fds) {}
    leftovers(const leftovers&) = delete;
    leftovers& operator=(const leftovers&) = delete;
    ~leftovers() {
        if (!fds_.empty()) owner_.dispose(std::move(fds_));
    }

private:
    session_owner& owner_;
    std::vector<unique_fd>& fds_;
};

bool passes(int e) noexcept { return e == ETOOMANYREFS || e == ENOBUFS || e == ENOMEM; }

}  // namespace

session::session(event_loop& io, session_id id, std::shared_ptr<amounts> of_user,
                 session_owner& owner)
    : account(std::make_shared<daemon::account>(std::move(of_user))),
      io_(io),
      socket_(io, "session"),
      write_again_(io, "session", [this] { write_turn(); }),
      read_again_(io, "session", [this] { read_turn(); }),
      id_(id),
      owner_(owner) {}

int session::take(unique_fd& socket) {
    inode_ = ipc::socket_inode(socket.get());
    return socket_.take(socket);
}

bool session::congested() const noexcept {
    return queue_.size() >= ipc::k_max_unsent_packets || queued_bytes_ >= ipc::k_max_unsent_bytes;
}

void session::read() {
    if (reading_ || ended_ || congested()) return;
    reading_ = true;
    socket_.await([self = shared_from_this()] { self->read_turn(); });
}

void session::read_turn() {
    const auto self = shared_from_this();
    reading_ = false;
    if (ended_) return;
    try {
        take_packets();
    } catch (...) {
        end(caught(io_, "session"));
    }
    bounded(io_, "session", [this] { owner_.on_turn_end(); });
    read();
}

void session::take_packets() {
    const std::uint64_t began = ipc::monotonic_ns();
    // One is all, as a rule: the loop tells if it is not.
    const int most = socket_.reads_in_a_row() > 1 ? k_packets_a_turn : 1;
    for (int i = 0; i < most && !ended_ && !congested() && ipc::monotonic_ns() - began < k_turn_ns;
         ++i) {
        ipc::received packet = receiver_.receive(socket_.fd());
        const leftovers of_packet(owner_, packet.descriptors);
        if (!take_packet(packet)) return;
    }
}

// False when there is nothing more to read now.
bool session::take_packet(ipc::received& packet) {
    if (packet.status == ipc::receive_status::would_block) return false;
    if (packet.status == ipc::receive_status::closed) {
        end(ipc::fail(step::none, 0, {}, "the client has closed"));
        return false;
    }
    if (packet.status == ipc::receive_status::malformed && refuse(packet)) return true;
    if (packet.status == ipc::receive_status::failed && passes(packet.error_number)) {
        reading_ = true;  // later: the packet waits in the socket
        read_again_.set_in(k_retry_after);
        return false;
    }
    if (packet.status != ipc::receive_status::packet) {
        end(ipc::fail(step::protocol, packet.error_number, "packet",
                      "the packet or its descriptors were cut, or too many"));
        return false;
    }
    serve(packet);
    return true;
}

// What it throws is the answer to the request that it was about.
void session::serve(ipc::received& packet) {
    const std::string_view body = packet.body;
    request_id request;
    try {
        auto message = ipc::decode_client_message(std::move(packet));
        if (!message) return refuse_or_end(body, message.error());
        const leftovers of_message(owner_, message->descriptors);
        request = request_id(message->message.request_id());
        owner_.on_message(*this, *message);
    } catch (...) {
        const failure why = caught(io_, "request");
        if (!request && !read_request_id(body, request)) return end(why);
        fail_request(request, why);
    }
}

// A large body that could not be looked at for want of memory is no fault of the client's.
void session::refuse_or_end(std::string_view body, failure why) {
    request_id request;
    const int e = why.error_number;
    if ((e != ENOMEM && e != EMFILE && e != ENFILE) || !read_request_id(body, request))
        return end(why);
    why.step = step::prepare;
    fail_request(request, why);
}

void session::fail_request(request_id request, const failure& why) {
    try {
        send_failure(request, why);
    } catch (...) {
        end(why);
    }
}

bool session::read_request_id(std::string_view body, request_id& out) {
    v1::ClientMessage m;
    if (body.empty() || !m.ParseFromArray(body.data(), static_cast<int>(body.size()))) return false;
    out = request_id(m.request_id());
    return bool(out);
}

// The kernel has cut a request's descriptors because this process may have no more. It is
// not the client's fault, who may have nobody else to ask.
bool session::refuse(const ipc::received& packet) {
    request_id request;
    if (!read_request_id(packet.body, request)) return false;
    if (packet.error_number == ENOMEM) {
        send_failure(request, ipc::fail(step::prepare, ENOMEM, "memory",
                                        "RESOURCE_EXHAUSTED: the forkserver has none for the "
                                        "request's descriptors"));
        return true;
    }
    send_failure(request,
                 ipc::fail(step::quota, EMFILE, "descriptors",
                           "RESOURCE_EXHAUSTED: the forkserver may have no more, and the request's "
                           "were cut: raise its RLIMIT_NOFILE"));
    return true;
}

bool session::send(const v1::ServerMessage& message, std::span<const int> descriptors) {
    if (ended_ || failing_) return true;  // its children meet the end of the session
    auto e = ipc::encode(message);
    if (!e) {
        // Too large, or no descriptor or memory for a large body: the caller learns that instead.
        if (message.request_id() != 0 && !message.has_failure())
            send_failure(request_id(message.request_id()), e.error());
        return false;
    }
    if (queue_.empty() && transmit(*e, descriptors)) return true;
    outgoing later{std::move(*e), {}, message.ByteSizeLong()};
    for (const int fd : descriptors) {
        later.descriptors.push_back(ipc::dup_fd(fd));
        if (!later.descriptors.back()) {
            end_later(ipc::fail(step::prepare, errno, "descriptor"));
            return true;  // its children meet the end of the session
        }
    }
    queued_bytes_ += later.bytes;
    queue_.push_back(std::move(later));
    await_room();
    return true;
}

void session::send_failure(request_id request, const failure& f) {
    v1::ServerMessage m;
    m.set_request_id(request.value());
    ipc::to_wire(f, *m.mutable_failure());
    send(m);
}

bool session::transmit(const ipc::encoded& e, std::span<const int> descriptors) {
    switch (ipc::send(socket_.fd(), e, descriptors)) {
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
    if (!send_all()) await_room();
}

// What throws is tried again: an exit that is not told is waited for, for ever.
bool session::send_all() {
    try {
        return flush_queue() && send_exits();
    } catch (...) {
        (void)caught(io_, "session");
        room_is_announced_ = false;
        return false;
    }
}

bool session::flush_queue() {
    while (!queue_.empty() && !ended_ && !failing_) {
        int fds[ipc::k_max_descriptors];
        std::size_t n = 0;
        for (const unique_fd& fd : queue_.front().descriptors) fds[n++] = fd.get();
        if (!transmit(queue_.front().message, {fds, n})) return false;
        queued_bytes_ -= queue_.front().bytes;
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
    if (!room_is_announced_) return write_again_.set_in(k_retry_after);
    socket_.await(watched_fd::to::write, [self = shared_from_this()] { self->write_turn(); });
}

void session::write_turn() {
    const auto self = shared_from_this();
    awaiting_room_ = false;
    if (ended_) return;
    if (!send_all()) await_room();
    read();
}

// The owner is in the midst of what it sends: the child it speaks of must not
// go with the session under its hands.
void session::end_later(failure why) {
    failing_ = true;
    post_bounded(io_, "session", [self = shared_from_this(), f = std::move(why)] { self->end(f); });
}

void session::end(const failure& why) {
    if (ended_) return;
    const auto self = shared_from_this();
    if (why.step != step::none) bounded(io_, "session", [&] { tell_last(why, socket_.fd()); });
    ended_ = true;
    bounded(io_, "session", [this] { close(); });
    queue_.clear();
    exits_.clear();
    // Its children meet their lifetimes, whatever happens on the way.
    insist(io_, "end of a session", [&] { owner_.on_end(*this, why); });
}

void session::hang_up() noexcept {
    if (std::exchange(ended_, true)) return;
    bounded(io_, "session", [this] { close(); });
}

void session::tell_last(const failure& why, int socket) {
    v1::ServerMessage m;
    ipc::to_wire(why, *m.mutable_failure());
    if (const auto e = ipc::encode(m)) ipc::send(socket, *e, {});
}

// With the socket goes what is in its queue, and descriptors with that: whose close may wait as
// that of any other of a client.
void session::close() {
    unique_fd socket = socket_.release();
    if (ipc::end_connection(socket.get())) return;
    std::vector<unique_fd> full;
    full.push_back(std::move(socket));
    owner_.dispose(std::move(full));
}

}  // namespace cleanfork::daemon
