// The forkserver behind <cleanfork/boost_process.hpp> when no client is named.
#pragma once

#include <unistd.h>

#include <cleanfork/client.hpp>
#include <memory>
#include <mutex>

namespace cleanfork::boost_process {

namespace detail {

// One in the program, and never destroyed: processes may be started while
// static objects already go, and the forkserver ends with the program anyway.
class CLEANFORK_EXPORT client_in_use {
public:
    static client_in_use& instance() {
        static auto* const only = new client_in_use;
        return *only;
    }

    // Launches a private forkserver when there is none, or the last one was lost.
    // Throws spawn_error (step::launch).
    std::shared_ptr<const client> get() {
        const std::lock_guard lock(mutex_);
        forget_after_fork();
        if (current_ && (!launched_ || current_->connected())) return current_;
        current_ = std::make_shared<const client>(launch());
        launched_ = true;
        owner_ = ::getpid();
        return current_;
    }

    void set(std::shared_ptr<const client> c) {
        const std::lock_guard lock(mutex_);
        forget_after_fork();
        current_ = std::move(c);
        launched_ = false;
        owner_ = ::getpid();
    }

private:
    // In a forked copy of the program the connection is still the parent's:
    // using it would mix two conversations, destroying it would end the parent's.
    void forget_after_fork() {
        if (!current_ || owner_ == ::getpid()) return;
        [[maybe_unused]] static auto* const parents =
            new std::shared_ptr<const client>(std::move(current_));
        current_.reset();
    }

    std::mutex mutex_;
    std::shared_ptr<const client> current_;
    bool launched_ = false;
    pid_t owner_ = 0;
};

}  // namespace detail

// Later processes come from `c`: borrowed, it must live until the last of them
// was started. use(client()) goes back to a private forkserver of our own.
inline void use(const client& c) {
    detail::client_in_use::instance().set(std::shared_ptr<const client>(&c, [](const client*) {}));
}

// The same, and keeps the client: `bp::use(cleanfork::launch());` first in main()
// has the forkserver started before the program has grown.
inline void use(client&& c) {
    std::shared_ptr<const client> kept;
    if (c.valid()) kept = std::make_shared<const client>(std::move(c));
    detail::client_in_use::instance().set(std::move(kept));
}

}  // namespace cleanfork::boost_process
