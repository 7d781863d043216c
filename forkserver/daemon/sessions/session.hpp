// One client's connection: packets in, packets out, never waiting for the peer.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>
#include <sys/types.h>

#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "forkserver/daemon/daemon_ids.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/daemon/loop/watched_fd.hpp"
#include "forkserver/daemon/sessions/charges.hpp"
#include "forkserver/spawn/plan.hpp"
#include "ipc/wire/message.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::daemon {

class session;

// What a session tells its owner. The session is alive during each call.
class session_owner {
public:
    // What is left of the message's descriptors is for dispose().
    virtual void on_message(session& s, ipc::decoded<v1::ClientMessage>& message) = 0;
    // After the packets that were at hand: the time to do what they asked for.
    virtual void on_turn_end() = 0;
    // The session will call no more; `why` is for the log.
    virtual void on_end(session& s, const failure& why) = 0;
    // Closes what came from a client, without waiting for it.
    virtual void dispose(std::vector<unique_fd> fds) noexcept = 0;

protected:
    ~session_owner() = default;
};

class session : public std::enable_shared_from_this<session> {
public:
    // `of_user` is the account of all its user's sessions.
    session(event_loop& io, session_id id, std::shared_ptr<amounts> of_user, session_owner& owner);

    // 0, or the errno of a socket that cannot be watched, and is not taken.
    [[nodiscard]] int take(unique_fd& socket);
    // Of its socket.
    [[nodiscard]] ino_t inode() const noexcept { return inode_; }
    void start() { read(); }

    [[nodiscard]] session_id id() const noexcept { return id_; }
    [[nodiscard]] bool ended() const noexcept { return ended_; }

    // Sends now, or queues (with copies of the borrowed descriptors) when the
    // client does not read; while too much is queued, nothing more is read from it.
    // False when the client is told a failure instead, or nothing.
    bool send(const v1::ServerMessage& message, std::span<const int> descriptors = {});
    void send_failure(request_id request, const failure& f);

    // Exit events are gathered and sent by flush_exits(), many in a packet.
    void add_exit(v1::Exit exit) { exits_.push_back(std::move(exit)); }
    void flush_exits();

    // The last word on a socket.
    static void tell_last(const failure& why, int socket);
    // Tells the client why (if it can), closes, and reports to the owner.
    void end(const failure& why);
    // The same without a word to anybody: at the end of the forkserver.
    void hang_up() noexcept;
    // When its owner is done with what is at hand; nothing more is sent until then.
    void end_later(failure why);

    // Set by hello.
    bool greeted = false;
    bool lends_rights = false;
    // Of the request at hand: see sender.hpp.
    bool sender_is_another = false;
    std::shared_ptr<const spawn::session_base> base;
    // What it uses of its quotas; the objects that use it count it.
    const std::shared_ptr<daemon::account> account;
    charge base_place;
    // Of a base that no queued spawn has been charged with: each may hold one alive.
    std::size_t uncharged_base_bytes = 0;

private:
    struct outgoing {
        ipc::encoded message;
        std::vector<unique_fd> descriptors;
        std::size_t bytes;
    };

    void read();
    void read_turn();
    void take_packets();
    bool take_packet(ipc::received& packet);
    void serve(ipc::received& packet);
    // What was thrown while the request was served is its answer.
    void fail_request(request_id request, const failure& why);
    void refuse_or_end(std::string_view body, failure why);
    static bool read_request_id(std::string_view body, request_id& out);
    bool refuse(const ipc::received& packet);
    void close();
    void await_room();
    void write_turn();
    bool flush_queue();
    bool send_exits();
    bool send_all();
    // True when the packet is out of our hands: sent, or the session is about to end over it.
    bool transmit(const ipc::encoded& e, std::span<const int> descriptors);
    [[nodiscard]] bool congested() const noexcept;

    event_loop& io_;
    watched_fd socket_;
    bounded_timer write_again_, read_again_;
    ino_t inode_ = 0;
    session_id id_;
    session_owner& owner_;
    ipc::receiver receiver_;
    std::deque<outgoing> queue_;
    std::size_t queued_bytes_ = 0;
    std::deque<v1::Exit> exits_;
    bool awaiting_room_ = false;
    bool room_is_announced_ = true;  // false: the kernel is short, ask again later
    bool reading_ = false;
    bool failing_ = false;  // a packet could not be sent: it ends as soon as the owner is done
    bool ended_ = false;
};

}  // namespace cleanfork::daemon
