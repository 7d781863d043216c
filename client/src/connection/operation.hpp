// A request that waits for its reply, as the connection sees it.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <cleanfork/failure.hpp>

#include "ipc/wire/message.hpp"

namespace cleanfork::detail {

class connection;

using reply = ipc::decoded<v1::ServerMessage>;

class operation {
public:
    virtual ~operation() = default;
    // Called once, without the lock, by whoever reads the reply or loses the connection.
    virtual void finish(connection& c, result<reply>&& r) = 0;
    // Where an asynchronous one may be watched for; null for a blocked thread's.
    [[nodiscard]] virtual const boost::asio::any_io_executor* io() const noexcept {
        return nullptr;
    }
};

// For requests whose outcome does not matter.
class ignoring_operation final : public operation {
    void finish(connection&, result<reply>&&) override {}
};

}  // namespace cleanfork::detail
