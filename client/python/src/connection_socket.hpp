// The socket of a connection: of no concern to the library's users, but a forked
// child has to close it, and the connection itself must not be touched there.
#pragma once

#include "client/src/connection.hpp"

namespace cleanfork::python {

// Explicit instantiation may name a private member ([temp.spec]/6), which keeps
// this need of one binding out of the library.
template <auto Member>
struct socket_member {
    friend int socket_of(const detail::connection& c) noexcept { return (c.*Member).get(); }
};
int socket_of(const detail::connection& c) noexcept;
template struct socket_member<&detail::connection::socket_>;

}  // namespace cleanfork::python
