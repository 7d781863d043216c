// Signals to this process, with who sent them: what a terminal sends to a whole process group is
// told from what somebody sends to this process.
#pragma once

#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <optional>
#include <utility>
#include <vector>

namespace cleanfork::cli {

struct arrived_signal {
    int number = 0;
    bool from_kernel = false;  // of a terminal, or of a session that ended
};

class signal_stream {
public:
    explicit signal_stream(boost::asio::io_context& io) : fd_(io) {}

    // Blocks them in this process, which has one thread, for good. Throws std::system_error.
    void open(const std::vector<int>& numbers);

    // Calls done(arrived_signal) for the next one.
    template <class Done>
    void async_next(Done done) {
        fd_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                       [this, done = std::move(done)](const boost::system::error_code& ec) mutable {
                           if (ec) return;
                           if (const auto arrived = next()) return done(*arrived);
                           async_next(std::move(done));
                       });
    }

private:
    std::optional<arrived_signal> next();

    boost::asio::posix::stream_descriptor fd_;
};

// As if the signal, which is blocked, had its default action now.
void take_default_action(int number) noexcept;

}  // namespace cleanfork::cli
