// Calls that go straight into a leased child; see ipc/wire/lease.hpp.
#pragma once

#include "client/src/connection/blocking.hpp"
#include "client/src/connection/lease_pool.hpp"
#include "client/src/connection/outgoing.hpp"
#include "client/src/requests/entry_call.hpp"

namespace cleanfork::detail {

// What a call of a filled message has in common with others; empty: it is the forkserver's alone
// to begin, since something of it cannot come later, or cannot wait.
std::string kind_of(const v1::SpawnRequest& r);

// The call of `m`, sent to a leased child, which is to tell its `answer`. None: there is none, or
// it cannot be sent.
std::optional<lease> send_to_lease(connection& c, const std::string& kind, const outgoing& m,
                                   bool answer);
// True once its entry is about to run. False: nothing of it has run or will, and the forkserver is
// to be asked; or (timed_out) the time is over. The child is killed when it may not take the call
// in time.
enum class lease_begin { begins, lost, timed_out };
lease_begin await_begin(const lease& l, const deadline& d);
// Of a child that has ended: whether its entry had begun. If not, nothing of it has run.
bool had_begun(const lease& l);

// Once a call of that kind has begun: tells the forkserver which child runs it, if one that was
// leased does, and asks for as many leases as are missing.
void refill(connection& c, const std::string& kind, const outgoing& m, const child_state* used);

// A call as a blocking one, by a lease where there is one.
result<process> call_entry(const std::shared_ptr<connection>& c, const timeout& t,
                           const entry_call& call);

}  // namespace cleanfork::detail
