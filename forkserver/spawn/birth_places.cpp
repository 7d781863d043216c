#include "forkserver/spawn/birth_places.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <thread>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::spawn {

namespace {

constexpr std::size_t k_size = k_shared_size + k_stack_size;

}  // namespace

std::size_t usual_births() noexcept {
    constexpr std::size_t k_most = 4;  // while one begins, the forkserver makes about so many
    static const auto number =
        std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, k_most);
    return number;
}

birth_place::~birth_place() {
    if (at_ != nullptr) ::munmap(at_, k_size);
}

int birth_place::send(plan& p) {
    int all[k_most_sources];
    std::size_t count = 0;
    bool is_too_many = false;
    each_source(p, channel() + 1, [&](const int& fd) {
        if (std::find(all, all + count, fd) != all + count) return;
        is_too_many = count == k_most_sources;
        if (!is_too_many) all[count++] = fd;
    });
    if (is_too_many) return E2BIG;
    for (std::size_t i = 0; i < count; i += ipc::k_max_descriptors) {
        const std::size_t n = std::min(count - i, ipc::k_max_descriptors);
        has_sent_ = true;
        if (ipc::send_packet(ours_.get(), "d", {all + i, n}) != ipc::send_status::sent)
            return errno;
    }
    return 0;
}

bool birth_places::reserve(int null, int end) {
    reserved_.reserve(static_cast<std::size_t>(std::max(end, 0)));
    for (;;) {
        unique_fd fd(::fcntl(null, F_DUPFD_CLOEXEC, 0));
        if (!fd || fd.get() >= end) break;
        reserved_.push_back(std::move(fd));
    }
    std::reverse(reserved_.begin(), reserved_.end());
    if (reserved_.size() < 2) return false;
    null_ = std::move(reserved_.back());
    reserved_.pop_back();
    return true;
}

void birth_places::reserve_again(int null, int number) {
    if (!null_) return;
    unique_fd fd(::fcntl(null, F_DUPFD_CLOEXEC, number));
    if (fd.get() == number) reserve(std::move(fd));
}

void birth_places::reserve(unique_fd number) {
    const auto above = std::find_if(reserved_.begin(), reserved_.end(),
                                    [&](const unique_fd& r) { return r.get() < number.get(); });
    reserved_.insert(above, std::move(number));
}

result<std::unique_ptr<birth_place>> birth_places::make() {
    auto place = std::make_unique<birth_place>();
    if (null_ && reserved_.empty())
        return ipc::fail(step::prepare, EMFILE, "the child's socket",
                         "as many processes begin as may at once");
    free_.reserve(made_ + 1);  // so that giving back cannot fail, nor keeping the number
    reserved_.reserve(reserved_.size() + made_ + 1);
    void* const at =
        ::mmap(nullptr, k_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return ipc::fail(step::prepare, errno, "the child's stack");
    place->at_ = static_cast<char*>(at);
    if (null_) {
        auto pair = ipc::seqpacket_pair();
        if (!pair) return pair.error();
        if (::dup3(pair->second.get(), reserved_.back().get(), O_CLOEXEC) < 0)
            return ipc::fail(step::prepare, errno, "the child's socket");
        place->ours_ = std::move(pair->first);
        place->theirs_ = std::move(reserved_.back());
        reserved_.pop_back();
    }
    ++made_;
    return place;
}

result<void> birth_places::keep(std::size_t number) {
    kept_ = number;
    std::vector<std::unique_ptr<birth_place>> all;
    while (all.size() < number) {
        auto one = take();
        if (!one) return one.error();
        all.push_back(std::move(*one));
    }
    for (auto& place : all) give_back(std::move(place));
    return {};
}

result<std::unique_ptr<birth_place>> birth_places::take() {
    std::unique_ptr<birth_place> place;
    if (!free_.empty()) {
        // With the lowest socket: its child has no other's to close.
        const auto lowest = std::min_element(
            free_.begin(), free_.end(),
            [](const auto& a, const auto& b) { return a->channel() < b->channel(); });
        place = std::move(*lowest);
        free_.erase(lowest);
    } else {
        auto made = make();
        if (!made) return made.error();
        place = std::move(*made);
    }
    if (!drain(*place)) {
        free_.push_back(std::move(place));
        return ipc::fail(step::prepare, ENOMEM, "the child's socket");
    }
    new (&place->report()) child_report{};
    new (&place->context()) child_context{};
    return place;
}

// What a child has not received is in its socket, and with this process's own copies not the last.
bool birth_places::drain(birth_place& place) noexcept {
    if (!place.has_sent_) return true;
    try {
        ipc::receiver receiver;
        while (place.has_sent_) {
            ipc::received packet = receiver.receive(place.theirs_.get());
            if (packet.status == ipc::receive_status::failed) return false;
            place.has_sent_ = packet.status != ipc::receive_status::would_block;
            dispose(std::move(packet.descriptors));
        }
        return true;
    } catch (const std::bad_alloc&) {
        return false;
    }
}

void birth_places::give_back(std::unique_ptr<birth_place> place) noexcept {
    if (place->report().received != 0) place->has_sent_ = false;
    if (drain(*place) && free_.size() >= kept_ && retire(*place)) return;
    free_.push_back(std::move(place));
}

// Its number is reserved again. False, and it stays as it was, when that cannot be.
bool birth_places::retire(birth_place& place) {
    if (place.theirs_ && ::dup3(null_.get(), place.theirs_.get(), O_CLOEXEC) < 0) return false;
    if (place.theirs_) reserve(std::move(place.theirs_));
    --made_;
    return true;
}

}  // namespace cleanfork::spawn
