#include "client/src/connection/writer.hpp"

#include <fcntl.h>

#include <array>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::detail {

namespace {

// The kernel says EBADF, not which: name it.
failure send_failure(int error_number, std::span<const int> descriptors) {
    if (error_number == EBADF)
        for (const int fd : descriptors)
            if (::fcntl(fd, F_GETFD) < 0)
                return ipc::fail(step::request, EBADF, std::to_string(fd),
                                 "no such open descriptor in the calling program");
    if (error_number == ETOOMANYREFS)
        return ipc::fail(step::request, error_number, "descriptors",
                         "too many descriptors of this user are in flight: raise RLIMIT_NOFILE");
    return ipc::fail(step::request, error_number, "sendmsg");
}

}  // namespace

result<writer::sent> writer::send(const v1::ClientMessage& m, std::span<const int> descriptors) {
    const std::size_t size = m.ByteSizeLong();
    std::array<char, 4096> small;
    if (size > small.size()) return send_large(m, descriptors);
    m.SerializeWithCachedSizesToArray(reinterpret_cast<std::uint8_t*>(small.data()));
    const std::string_view body(small.data(), size);
    const auto waiting = waiting_.lock();
    const ipc::send_status s = waiting->empty() ? ipc::send_packet(socket_, body, descriptors)
                                                : ipc::send_status::would_block;
    const int error = errno;
    if (s == ipc::send_status::would_block)
        return queue(waiting, ipc::request_id(m.request_id()), {std::string(body), {}},
                     descriptors);
    if (s == ipc::send_status::failed) return send_failure(error, descriptors);
    return sent::now;
}

result<writer::sent> writer::send_large(const v1::ClientMessage& m,
                                        std::span<const int> descriptors) {
    auto e = ipc::encode(m);
    if (!e) return e.error();
    if (e->body_fd && descriptors.size() + 1 > ipc::k_max_descriptors)
        return ipc::fail(step::request, E2BIG, std::to_string(descriptors.size()) + " descriptors",
                         "a request over 64 KiB carries at most 63");
    const auto waiting = waiting_.lock();
    const ipc::send_status s =
        waiting->empty() ? ipc::send(socket_, *e, descriptors) : ipc::send_status::would_block;
    const int error = errno;
    if (s == ipc::send_status::would_block)
        return queue(waiting, ipc::request_id(m.request_id()), std::move(*e), descriptors);
    if (s == ipc::send_status::failed) return send_failure(error, descriptors);
    return sent::now;
}

result<writer::sent> writer::queue(const locked<packets>& waiting, ipc::request_id request,
                                   ipc::encoded&& e, std::span<const int> descriptors) {
    packet p{request, std::move(e), {}};
    p.descriptors.reserve(descriptors.size());
    for (const int fd : descriptors) {
        unique_fd copy = ipc::dup_fd(fd);
        if (!copy) {
            const int error = errno;
            return ipc::fail(step::request, error, std::to_string(fd),
                             "could not keep a copy of the descriptor until the forkserver reads");
        }
        p.descriptors.push_back(std::move(copy));
    }
    waiting->push_back(std::move(p));
    blocked_ = true;
    return sent::later;
}

writer::flushed writer::flush() {
    flushed done{.all = true, .dropped = {}};
    const auto waiting = waiting_.lock();
    while (!waiting->empty()) {
        const packet& p = waiting->front();
        std::array<int, ipc::k_max_descriptors> numbers{};
        std::size_t n = 0;
        for (const unique_fd& fd : p.descriptors) numbers[n++] = fd.get();
        const ipc::send_status s = ipc::send(socket_, p.message, {numbers.data(), n});
        const int error = errno;
        if (s == ipc::send_status::would_block) {
            done.all = false;
            return done;
        }
        if (s == ipc::send_status::failed)
            done.dropped.push_back({p.request, send_failure(error, {numbers.data(), n})});
        waiting->pop_front();
    }
    blocked_ = false;
    return done;
}

void writer::discard() {
    const auto waiting = waiting_.lock();
    waiting->clear();
    blocked_ = false;
}

}  // namespace cleanfork::detail
