// What the lock of a connection protects.
#pragma once

#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "client/src/connection/exit_listener.hpp"
#include "client/src/connection/operation.hpp"
#include "client/src/connection/reader_role.hpp"
#include "client/src/connection/watcher.hpp"
#include "ipc/wire/ids.hpp"

namespace cleanfork::detail {

struct connection_tables {
    connection_tables(int socket, const any_io_executor& own) : watch(socket, own) {}

    reader_role role;
    watcher watch;
    std::unordered_map<ipc::request_id, std::shared_ptr<operation>> pending;   // without a reply
    std::unordered_map<ipc::child_id, std::weak_ptr<exit_listener>> children;  // without an exit
    std::vector<ipc::child_id> acknowledged;  // exits to acknowledge with the next request
    std::optional<failure> loss;              // set once: what everything fails with from then on
};

}  // namespace cleanfork::detail
