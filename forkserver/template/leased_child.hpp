// A child that is leased: it has become all that its session's call is to find, and waits for the
// call itself, which the client sends straight to it (ipc/wire/lease.hpp).
#pragma once

#include <cstdint>
#include <span>

#include "forkserver/template/child_files.hpp"
#include "forkserver/template/host.hpp"
#include "forkserver/template/kept_files.hpp"

namespace cleanfork::templates {

struct lease {
    int channel = -1;         // the call comes through it, one way
    int answer = -1;          // the client's pipe, for words
    std::int64_t owner = -1;  // the user who may use it, besides root; -1: anybody
    std::span<char> room;     // for the call: of the template's memory, never used there
    const kept_files* files = nullptr;
    const host* entries = nullptr;
};

struct leased_call {
    bool came = false;  // else nothing of an entry runs here: the lease is over
    task todo;
    answer_place answer;  // told when the entry has returned, where that is wanted
};

// Blocks until the call comes, or nobody can send one any more. What was sent first decides:
// after the forkserver has revoked the lease nothing more comes through the channel. A call that
// cannot be met is refused before anything of the entry runs: its caller asks the forkserver.
leased_call await_call(lease l);

}  // namespace cleanfork::templates
