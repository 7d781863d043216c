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
#include <mutex>
#include <span>
#include <vector>

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

    // Sends what waits, as far as the socket takes it. True when nothing waits
    // any more. Requests that can't be sent at all are dropped and told in `failed`.
    struct unsent {
        std::uint64_t request_id;
        failure why;
    };
    bool flush(std::vector<unsent>& failed);
    [[nodiscard]] bool blocked() const noexcept { return blocked_.load(); }
    void discard();

private:
    struct packet {
        std::uint64_t request_id;
        ipc::encoded message;
        std::vector<unique_fd> descriptors;
    };
    result<sent> send_large(const v1::ClientMessage& m, std::span<const int> descriptors);
    result<sent> queue(std::uint64_t request_id, ipc::encoded&& e,
                       std::span<const int> descriptors);

    const int socket_;
    std::atomic<bool> blocked_{false};  // packets wait; changed under the mutex
    std::mutex mutex_;
    std::deque<packet> waiting_;
};

}  // namespace cleanfork::detail
