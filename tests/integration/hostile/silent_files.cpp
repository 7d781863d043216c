#include "tests/integration/hostile/silent_files.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <vector>

namespace cleanfork::testing {

namespace {

constexpr std::uint64_t k_slow = 2;  // the node of that file

// The mounts are this process's own from now on, and go with it.
bool has_own_mounts() {
    static const bool done = ::unshare(CLONE_NEWNS) == 0 &&
                             ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    return done;
}

fuse_attr attributes_of(std::uint64_t node) {
    fuse_attr a{};
    a.ino = node;
    a.mode = node == k_slow ? S_IFREG | 0666U : S_IFDIR | 0777U;
    a.nlink = 1;
    a.blksize = 4096;
    return a;
}

}  // namespace

std::string silent_files::missing() {
    if (::geteuid() != 0) return "to mount it needs root";
    const unique_fd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    if (!device) return std::string("no /dev/fuse: ") + std::strerror(errno);
    if (!has_own_mounts()) return std::string("no mounts of its own: ") + std::strerror(errno);
    return {};
}

silent_files::silent_files()
    : device_(::open("/dev/fuse", O_RDWR | O_CLOEXEC)), stop_(::eventfd(0, EFD_CLOEXEC)) {
    REQUIRE(has_own_mounts());
    const std::string options =
        "fd=" + std::to_string(device_.get()) + ",rootmode=40000,user_id=0,group_id=0,allow_other";
    REQUIRE(::mount("silent", path().c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) == 0);
    server_ = std::thread([this] { serve(); });
}

// Whoever waits for an answer gets an error then.
silent_files::~silent_files() {
    ::eventfd_write(stop_.get(), 1);
    server_.join();
    device_.reset();
    ::umount2(path().c_str(), MNT_DETACH);
}

void silent_files::serve() const {
    std::vector<char> request(std::size_t{1} << 20);
    for (;;) {
        pollfd events[] = {{device_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
        ::poll(events, 2, -1);
        if (events[1].revents != 0) return;
        if (::read(device_.get(), request.data(), request.size()) > 0) answer(request.data());
    }
}

bool silent_files::answer(const char* request) const {
    fuse_in_header in{};
    std::memcpy(&in, request, sizeof in);
    const auto reply = [&](const auto& body) {
        fuse_out_header out{};
        out.len = static_cast<std::uint32_t>(sizeof out + sizeof body);
        out.unique = in.unique;
        iovec parts[] = {{&out, sizeof out},
                         {const_cast<void*>(static_cast<const void*>(&body)), sizeof body}};
        return ::writev(device_.get(), parts, 2) > 0;
    };
    switch (in.opcode) {
        case FUSE_INIT: {
            fuse_init_out out{};
            out.major = FUSE_KERNEL_VERSION;
            out.minor = 31;
            out.max_write = 4096;
            return reply(out);
        }
        case FUSE_LOOKUP: {
            if (std::strcmp(request + sizeof in, "slow") != 0) return false;
            fuse_entry_out out{};
            out.nodeid = k_slow;
            out.attr = attributes_of(k_slow);
            return reply(out);
        }
        case FUSE_GETATTR: {
            if (in.nodeid != k_slow) return false;
            fuse_attr_out out{};
            out.attr = attributes_of(k_slow);
            return reply(out);
        }
        case FUSE_OPEN: {
            if (in.nodeid != k_slow) return false;
            return reply(fuse_open_out{});
        }
        default: return false;
    }
}

}  // namespace cleanfork::testing
