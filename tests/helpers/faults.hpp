// What tests/helpers/library_faults.cpp makes fail, in memory that a test shares with the program.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <string>

namespace cleanfork::test {

inline constexpr const char* k_faults_variable = "CLEANFORK_TEST_FAULTS";  // path of the file

enum class faulty { recvmsg, accept4, epoll_add, memfd_create, allocation, count_of };

struct fault {
    std::atomic<int> left;          // so many more calls fail
    std::atomic<int> error_number;  // with that; an allocation with std::bad_alloc
    std::atomic<int> fd;            // of recvmsg: that one alone; -1: any
    std::atomic<std::size_t> size;  // of an allocation: those at least as large
    std::atomic<int> skipped;       // so many of those succeed before
    std::atomic<long> calls;        // that were made, failed or not
};

struct fault_table {
    fault of[static_cast<int>(faulty::count_of)];
    std::atomic<long> held;  // allocations that were not given back
};

// One side's view of the file.
inline fault_table* map_faults(const char* path) {
    const int fd = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ::ftruncate(fd, sizeof(fault_table)) != 0) return nullptr;
    void* at = ::mmap(nullptr, sizeof(fault_table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ::close(fd);
    return at == MAP_FAILED ? nullptr : static_cast<fault_table*>(at);
}

}  // namespace cleanfork::test
