#include "forkserver/daemon/templates/call_channels.hpp"

#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <new>
#include <utility>
#include <vector>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::daemon {

namespace {

// Under such a limit there is none to spare.
bool has_few_descriptors(const spawn::launcher& launcher) noexcept {
    return launcher.self().descriptor_limit.rlim_max < 256;
}

}  // namespace

call_channel& call_channel::operator=(call_channel&& other) noexcept {
    close();
    ours_ = std::move(other.ours_);
    childs_ = std::move(other.childs_);
    childs_inode_ = other.childs_inode_;
    disposes_ = other.disposes_;
    return *this;
}

// Ours first, which the child sees.
void call_channel::close() noexcept {
    ours_.reset();
    if (!childs_ || disposes_ == nullptr) return;
    // A child that failed at a step has taken its request: then nothing is in the queue.
    if (ipc::end_connection(childs_.get())) return childs_.reset();
    try {
        std::vector<unique_fd> one(1);
        one.front() = std::move(childs_);
        disposes_->dispose(std::move(one));
    } catch (const std::bad_alloc&) {  // closed here, though that may wait
    }
}

void call_channels::prepare() {
    if (kept_ || has_few_descriptors(launcher_)) return;
    if (auto made = make()) give_back(std::move(*made));
}

result<call_channel> call_channels::take() {
    if (!kept_) return make();
    call_channel c = std::move(kept_);
    c.disposes_ = &launcher_;
    return c;
}

// A child has nothing to say there, and nothing can come into our end.
result<call_channel> call_channels::make() const {
    auto pair = ipc::seqpacket_pair();
    if (!pair) return pair.error();
    ::shutdown(pair->first.get(), SHUT_RD);
    call_channel c;
    c.ours_ = launcher_.own_descriptor(std::move(pair->first));
    c.childs_ = launcher_.own_descriptor(std::move(pair->second));
    struct stat about {};
    if (::fstat(c.childs(), &about) != 0) return ipc::fail(step::prepare, errno, "channel");
    c.childs_inode_ = about.st_ino;
    c.disposes_ = &launcher_;
    return c;
}

void call_channels::give_back(call_channel c) noexcept {
    if (!c.childs_) return;
    c.disposes_ = nullptr;
    if (!kept_ && !has_few_descriptors(launcher_)) kept_ = std::move(c);
}

}  // namespace cleanfork::daemon
