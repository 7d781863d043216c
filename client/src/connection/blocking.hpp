// The one way in which a thread blocks: for its reply, for the end of a child, and
// meanwhile for what else it has to do.
#pragma once

#include <poll.h>

#include <span>

#include "client/src/connection/deadline.hpp"
#include "client/src/connection/waiter.hpp"

namespace cleanfork::detail {

class connection;

// Descriptors that a blocked thread serves; at most connection::k_most_also.
class served_descriptors {
public:
    // What to poll for now, until serve() was called.
    virtual std::span<pollfd> wanted() = 0;
    // Does what can be done at once with those that are ready.
    virtual void serve() = 0;

protected:
    ~served_descriptors() = default;
};

// Whether something else than the deadline ends the wait: asked about fifty times a
// second, without any lock.
class interruption {
public:
    virtual bool is_due() = 0;

protected:
    ~interruption() = default;
};

// What a thread does while it is blocked. All borrowed; null: nothing.
struct meanwhile {
    served_descriptors* served = nullptr;
    interruption* interrupted = nullptr;
};

enum class blocked { ready, timed_out, interrupted };

// Until `w` is ready. The socket is read meanwhile, by this thread or by another.
blocked block(connection& c, waiter& w, const deadline& d, const meanwhile& work = {});
// Until `own` is ready (revents are set), without the connection.
blocked block_on(pollfd& own, const deadline& d, const meanwhile& work = {});
// Until the packets that wait have left, or the connection is lost. Serves nothing.
blocked block_until_sent(connection& c, const deadline& d, interruption* interrupted = nullptr);

}  // namespace cleanfork::detail
