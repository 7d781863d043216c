// For LD_PRELOAD: makes calls of a program fail as the test says that has started it, see
// faults.hpp.
#include <dlfcn.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cerrno>
#include <new>

#include "tests/helpers/faults.hpp"

namespace {

using cleanfork::test::fault;
using cleanfork::test::fault_table;
using cleanfork::test::faulty;

fault_table* table() {
    static fault_table* const mapped = [] {
        const char* path = std::getenv(cleanfork::test::k_faults_variable);
        return path == nullptr ? nullptr : cleanfork::test::map_faults(path);
    }();
    return mapped;
}

fault* called(faulty what) {
    fault_table* const all = table();
    if (all == nullptr) return nullptr;
    fault& f = all->of[static_cast<int>(what)];
    f.calls.fetch_add(1);
    return &f;
}

// True when this one is to fail; errno is set.
bool fails(fault& f) {
    if (f.left.load() <= 0 || f.left.fetch_sub(1) <= 0) return false;
    errno = f.error_number.load();
    return true;
}

template <class Function>
Function real(const char* name) {
    return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

ssize_t recvmsg(int fd, msghdr* message, int flags) {
    static const auto call = real<ssize_t (*)(int, msghdr*, int)>("recvmsg");
    fault* const f = called(faulty::recvmsg);
    if (f != nullptr && (f->fd.load() < 0 || f->fd.load() == fd) && fails(*f)) return -1;
    return call(fd, message, flags);
}

int accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
    static const auto call = real<int (*)(int, sockaddr*, socklen_t*, int)>("accept4");
    fault* const f = called(faulty::accept4);
    if (f != nullptr && fails(*f)) return -1;
    return call(fd, address, size, flags);
}

int epoll_ctl(int epoll, int what, int fd, epoll_event* event) noexcept {
    static const auto call = real<int (*)(int, int, int, epoll_event*)>("epoll_ctl");
    fault* const f = what == EPOLL_CTL_ADD ? called(faulty::epoll_add) : nullptr;
    if (f != nullptr && fails(*f)) return -1;
    return call(epoll, what, fd, event);
}

int memfd_create(const char* name, unsigned flags) noexcept {
    static const auto call = real<int (*)(const char*, unsigned)>("memfd_create");
    fault* const f = called(faulty::memfd_create);
    if (f != nullptr && fails(*f)) return -1;
    return call(name, flags);
}

}  // extern "C"

namespace {

// True when this allocation is to fail.
bool allocation_fails(std::size_t size) {
    fault_table* const all = table();
    if (all == nullptr) return false;
    fault& f = all->of[static_cast<int>(faulty::allocation)];
    f.calls.fetch_add(1);
    const bool meant = f.left.load() > 0 && size >= f.size.load();
    return meant && f.skipped.fetch_sub(1) <= 0 && fails(f);
}

void count_held(long more) {
    if (fault_table* const all = table()) all->held.fetch_add(more);
}

}  // namespace

// As if the C library had no memory, and no new handler could find any.
void* operator new(std::size_t size) {
    if (allocation_fails(size)) throw std::bad_alloc();
    if (void* const at = std::malloc(size == 0 ? 1 : size)) {
        count_held(1);
        return at;
    }
    throw std::bad_alloc();
}
void operator delete(void* at) noexcept {
    if (at != nullptr) count_held(-1);
    std::free(at);
}
void operator delete(void* at, std::size_t) noexcept { operator delete(at); }

// Asio allocates with this.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
    static const auto call = real<void* (*)(std::size_t, std::size_t)>("aligned_alloc");
    return allocation_fails(size) ? nullptr : call(alignment, size);
}
