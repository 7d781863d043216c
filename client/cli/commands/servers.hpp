// Which forkserver a command talks to.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <cleanfork/client.hpp>
#include <optional>
#include <string>

#include "client/cli/foreground/server_watch.hpp"

namespace cleanfork::cli {

struct server_choice {
    std::optional<std::string> socket;  // this one only
    bool only_private = false;
    // The child is to be in this command's job, which a forkserver of another session cannot do:
    // one that was not named is then passed over.
    bool in_job = false;
};

struct chosen_server {
    cleanfork::client client;
    std::string socket;         // empty: private
    std::string note;           // why the default socket was passed over, if that is worth a line
    bool same_session = false;  // its children can be in this command's process group
};

// For `spawn`: the named socket; else the default one when a forkserver answers
// there; else a private forkserver. Throws spawn_error.
chosen_server choose_server(boost::asio::any_io_executor executor, const server_choice& choice);

// For the commands about a running forkserver; without an executor for blocking use only.
// Throws spawn_error.
cleanfork::client join_server(const std::optional<std::string>& socket);
cleanfork::client join_server(boost::asio::any_io_executor executor,
                              const std::optional<std::string>& socket);

// True when no forkserver serves the socket at all.
bool is_absent(const failure& f);

// What such a command says about a failure, in one line; names the socket when
// no forkserver answers there.
std::string explain(const failure& f, const std::optional<std::string>& socket);

}  // namespace cleanfork::cli
