#include "forkserver/daemon/closers.hpp"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/system/system_error.hpp>
#include <new>

#include "forkserver/daemon/loop/boundary.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::size_t k_most_processes = 8;
constexpr std::chrono::milliseconds k_look{50};
constexpr std::chrono::seconds k_patience{1};
constexpr std::chrono::milliseconds k_farewell{100};

}  // namespace

closers::closers(boost::asio::io_context& io, const spawn::launcher& launcher, logger& log)
    : io_(io), launcher_(launcher), log_(log), look_again_(io, "closers", [this] { look(); }) {
    void* const page = ::mmap(nullptr, sizeof(closing_board), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) throw std::bad_alloc();
    board_ = new (page) closing_board{};
    auto pair = ipc::seqpacket_pair();
    if (!pair) throw boost::system::system_error(errno, boost::system::system_category());
    ours_ = launcher_.own_descriptor(std::move(pair->first));
    theirs_ = launcher_.own_descriptor(std::move(pair->second));
    // They sleep in their call.
    ::fcntl(theirs_.get(), F_SETFL, ::fcntl(theirs_.get(), F_GETFL) & ~O_NONBLOCK);
}

closers::~closers() {
    stop();
    ::munmap(board_, sizeof(closing_board));
}

void closers::dispose(std::vector<unique_fd> fds) noexcept {
    if (stopped_) {
        for (unique_fd& fd : fds) (void)fd.release();
        return;
    }
    // Without memory for it they are closed here, though that may wait.
    bounded(io_, "closers", [&] {
        std::erase_if(
            fds, [this](const unique_fd& fd) { return !fd || kinds_.closes_at_once(fd.get()); });
        if (fds.empty()) return;
        waiting_.reserve(waiting_.size() + fds.size());
        for (unique_fd& fd : fds) waiting_.push_back(std::move(fd));
        arm();
        give();
    });
}

failure closers::refusal() const {
    if (!untaken_since_ || clock::now() - *untaken_since_ < k_patience) return {};
    return ipc::fail(step::quota, EBUSY, "descriptors",
                     "RESOURCE_EXHAUSTED: those of earlier requests cannot be closed, since the "
                     "file systems they are of do not answer");
}

// ---- the processes -----------------------------------------------------------

void closers::start() {
    processes_.emplace_back(io_);
    const auto p = std::prev(processes_.end());
    p->pid = ::fork();
    if (p->pid == 0) run_closer(theirs_.get(), *board_);
    if (p->pid < 0) return (void)processes_.erase(p);
    unique_fd pidfd = launcher_.own_descriptor(ipc::pidfd_open(p->pid));
    // Out of descriptors, or of watches: reap_unwatched() it is.
    if (!pidfd || p->pidfd.take(pidfd) != 0) return;
    await_end(p);
}

void closers::reap_unwatched() {
    std::erase_if(processes_, [](const process& p) {
        return !p.pidfd.is_open() && ::waitpid(p.pid, nullptr, WNOHANG) != 0;
    });
}

void closers::await_end(std::list<process>::iterator p) {
    p->pidfd.await([this, p] {
        (void)::waitpid(p->pid, nullptr, WNOHANG);
        processes_.erase(p);
        look();
    });
}

// ---- what they are given -----------------------------------------------------

// In a packet they are open still; only then are they closed here, which cannot be the last time.
void closers::give() {
    if (processes_.empty() && !waiting_.empty()) start();
    while (!waiting_.empty()) {
        const std::size_t n = std::min(waiting_.size(), ipc::k_max_descriptors);
        int fds[ipc::k_max_descriptors];
        std::transform(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(n), fds,
                       [](const unique_fd& fd) { return fd.get(); });
        const std::uint64_t number = number_ + 1;
        if (ipc::send_packet(ours_.get(), {reinterpret_cast<const char*>(&number), sizeof number},
                             {fds, n}) != ipc::send_status::sent)
            return;
        waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(n));
        board_->given_up.store(++number_, std::memory_order_release);
    }
}

// Nobody has received the packets yet, or they could not even be sent.
bool closers::untaken() const {
    int bytes = 0;
    if (!waiting_.empty()) return true;
    return ::ioctl(ours_.get(), SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

void closers::arm() {
    if (!stopped_) look_again_.set_in(k_look);
}

void closers::look() {
    reap_unwatched();
    if (!untaken()) {
        untaken_since_.reset();
        told_ = false;
        return;
    }
    arm();
    if (!untaken_since_) untaken_since_ = clock::now();
    if (processes_.size() < k_most_processes) start();
    give();
    if (!told_ && refusal().step != step::none) {
        told_ = true;
        log_.warning("descriptors_wait_to_be_closed",
                     {{"processes", std::uint64_t{processes_.size()}},
                      {"descriptors", std::uint64_t{waiting_.size()}}});
    }
}

void closers::stop() noexcept {
    if (stopped_) return;
    stopped_ = true;
    bounded(io_, "closers", [this] { look_again_.cancel(); });
    for (unique_fd& fd : waiting_) (void)fd.release();
    waiting_.clear();
    ours_.reset();
    (void)theirs_.release();  // what is in its queue is closed with it
    const auto until = clock::now() + k_farewell;
    for (process& p : processes_) {
        if (!p.pidfd.is_open()) continue;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock::now());
        const int ms = static_cast<int>(std::max<std::int64_t>(left.count(), 0));
        if (ipc::pidfd_wait(p.pidfd.fd(), ipc::pidfd_event::ended, ms))
            (void)::waitpid(p.pid, nullptr, WNOHANG);
    }
    processes_.clear();
}

}  // namespace cleanfork::daemon
