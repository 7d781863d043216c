// The sending half of a connection: packets leave in the order in which they came.
//
// Thread-safe. Never blocks: what the socket does not take at once waits here
// with copies of its descriptors, until flush().
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <atomic>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <deque>
#include <span>
#include <vector>

#include "client/src/connection/guarded.hpp"
#include "ipc/wire/ids.hpp"
#include "ipc/wire/message.hpp"

namespace cleanfork::detail {

class writer {
public:
    explicit writer(int socket) noexcept : socket_(socket) {}

    // Sent, or queued. A peer that is gone is no error here: the reader finds
    // the end after it has taken what is left to read. The descriptors are
    // borrowed until this returns.
    enum class sent { now, later };
    result<sent> send(const v1::ClientMessage& m, std::span<const int> descriptors);

    // Sends what waits, as far as the socket takes it. Requests that can't be sent at all
    // are dropped.
    struct unsent {
        ipc::request_id request;
        failure why;
    };
    struct flushed {
        bool all;  // nothing waits any more
        std::vector<unsent> dropped;
    };
    flushed flush();
    [[nodiscard]] bool blocked() const noexcept { return blocked_.load(); }
    void discard();

private:
    struct packet {
        ipc::request_id request;
        ipc::encoded message;
        std::vector<unique_fd> descriptors;
    };
    using packets = std::deque<packet>;

    result<sent> send_large(const v1::ClientMessage& m, std::span<const int> descriptors);
    result<sent> queue(const locked<packets>& waiting, ipc::request_id request, ipc::encoded&& e,
                       std::span<const int> descriptors);

    const int socket_;
    std::atomic<bool> blocked_{false};  // packets wait; changed with the lock held
    guarded<packets> waiting_;
};

}  // namespace cleanfork::detail
