// The sockets over which children of a template get their requests.
//
// A request is sent before its child exists, so the forkserver has both ends for a moment. It keeps
// the child's, too: once the child has told that it runs, it has taken the request, and the pair
// serves the next. A pair is of one process of a template: who kept the end that it was given could
// read what is sent later, which is for this template all the same.
#pragma once

#include <sys/types.h>

#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>

#include "forkserver/spawn/launcher.hpp"

namespace cleanfork::daemon {

// Of one child, which sees by its end that nobody wants it.
class call_channel {
public:
    call_channel() = default;
    // Of a warm child, which alone has its own end.
    explicit call_channel(unique_fd ours) noexcept : ours_(std::move(ours)) {}
    call_channel(call_channel&& other) noexcept = default;
    call_channel& operator=(call_channel&& other) noexcept;
    ~call_channel() { close(); }

    explicit operator bool() const noexcept { return static_cast<bool>(ours_); }
    // Borrowed; -1 when there is none.
    [[nodiscard]] int ours() const noexcept { return ours_.get(); }
    [[nodiscard]] int childs() const noexcept { return childs_.get(); }
    [[nodiscard]] ino_t childs_inode() const noexcept { return childs_inode_; }
    // The child alone has its end from now on, and sees when ours is closed.
    [[nodiscard]] unique_fd take_ours() && noexcept {
        disposes_ = nullptr;
        return std::move(ours_);
    }

private:
    friend class call_channels;
    void close() noexcept;

    unique_fd ours_, childs_;
    ino_t childs_inode_ = 0;
    // A request may be in it, with descriptors that are closed there; none: it is empty.
    const spawn::launcher* disposes_ = nullptr;
};

// Keeps one: nearly always one child is on its way.
class call_channels {
public:
    explicit call_channels(const spawn::launcher& launcher) : launcher_(launcher) {}

    // That there is one from now on. What could not be made is told to the call that needs it.
    void prepare();
    // The one that is kept, or a new one.
    [[nodiscard]] result<call_channel> take();
    // For a warm child, which keeps its own end.
    [[nodiscard]] result<call_channel> make() const;
    // Its child runs: there is nothing in it any more.
    void give_back(call_channel c) noexcept;

private:
    const spawn::launcher& launcher_;
    call_channel kept_;
};

}  // namespace cleanfork::daemon
