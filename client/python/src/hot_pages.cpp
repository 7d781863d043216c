#include "client/python/src/hot_pages.hpp"

// Python.h comes first, as it asks.
#include <Python.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cleanfork/unique_fd.hpp>
#include <csignal>
#include <cstdio>
#include <memory>

#include "ipc/base/sys.hpp"

namespace cleanfork::python {

namespace {

constexpr std::uintptr_t k_page = 4096;
constexpr std::size_t k_max_runs = 1024;
constexpr std::uint32_t k_max_pages = 4096;  // of all runs: 16 MiB
constexpr std::uint32_t k_gap = 1;           // what lies between two runs is taken with them
constexpr std::uint32_t k_gap_read = 16;     // a fault maps as many around it
// A larger one is the program's data, of which a start takes little.
constexpr std::uintptr_t k_max_mapping = std::uintptr_t{1} << 30;
constexpr int k_patience_ms = 5000;

// Linux 5.14; with older headers and kernels nothing is taken.
constexpr int k_populate_read = 22, k_populate_write = 23;

// See the kernel's pagemap.rst. Without privileges the frame is hidden, not these.
constexpr std::uint64_t k_present = std::uint64_t{1} << 63, k_exclusive = std::uint64_t{1} << 56;

struct mapping {
    std::uintptr_t from, to;
    bool writable, of_file;
};

std::vector<mapping> private_mappings() {
    std::vector<mapping> all;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
        std::fopen("/proc/self/maps", "re"), [](std::FILE* f) { return std::fclose(f); });
    char line[4096];
    while (file && std::fgets(line, sizeof line, file.get()) != nullptr) {
        unsigned long from = 0, to = 0, inode = 0;
        char mode[5] = {};
        if (std::sscanf(line, "%lx-%lx %4s %*x %*s %lu", &from, &to, mode, &inode) == 4 &&
            mode[0] == 'r' && mode[3] == 'p')
            all.push_back({from, to, mode[1] == 'w', inode != 0});
    }
    return all;
}

// What comes until the other end is closed, or nothing comes for long.
std::size_t receive(int from, void* into, std::size_t size) {
    std::size_t got = 0;
    pollfd p{from, POLLIN, 0};
    while (got < size && ipc::retry([&] { return ::poll(&p, 1, k_patience_ms); }) == 1) {
        const ssize_t n =
            ipc::retry([&] { return ::read(from, static_cast<char*>(into) + got, size - got); });
        if (n <= 0) break;
        got += static_cast<std::size_t>(n);
    }
    return got;
}

void end(pid_t pid) {
    ::kill(pid, SIGKILL);
    ipc::retry([&] { return ::waitpid(pid, nullptr, 0); });
}

}  // namespace

// After a fork a page that was not written since is in two page tables, and one of
// a file is in none until it is read.
std::vector<hot_pages::run> hot_pages::of_this_process() {
    std::vector<run> runs;
    const unique_fd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    if (!pagemap) return runs;
    std::uint32_t total = 0;
    std::vector<std::uint64_t> entries;
    for (const mapping& m : private_mappings()) {
        if ((!m.writable && !m.of_file) || m.to - m.from > k_max_mapping) continue;
        entries.resize((m.to - m.from) / k_page);
        const std::size_t bytes = entries.size() * sizeof entries[0];
        if (::pread(pagemap.get(), entries.data(), bytes,
                    static_cast<off_t>(m.from / k_page * sizeof entries[0])) !=
            static_cast<ssize_t>(bytes))
            continue;
        const std::uint32_t gap = m.writable ? k_gap : k_gap_read;
        bool open = false;
        for (std::size_t i = 0; i < entries.size(); ++i) {
            const std::uint64_t wanted = m.writable ? k_present | k_exclusive : k_present;
            if ((entries[i] & wanted) != wanted) continue;
            const std::uintptr_t at = m.from + i * k_page;
            if (open && at <= runs.back().at + (runs.back().pages + gap) * k_page) {
                const auto pages = static_cast<std::uint32_t>((at - runs.back().at) / k_page + 1);
                total += pages - runs.back().pages;
                runs.back().pages = pages;
            } else {
                runs.push_back({at, 1, m.writable});
                ++total;
                open = true;
            }
            if (runs.size() == k_max_runs || total >= k_max_pages) return runs;
        }
    }
    return runs;
}

void hot_pages::learn(const std::function<void()>& rehearsal) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    const unique_fd from(ends[0]);
    unique_fd to(ends[1]);
    std::vector<run> learned(k_max_runs);
    PyOS_BeforeFork();
    const pid_t pid = ::fork();
    if (pid == 0) {
        PyOS_AfterFork_Child();
        try {
            rehearsal();
            const std::vector<run> taken = of_this_process();
            (void)::write(to.get(), taken.data(), taken.size() * sizeof(run));
        } catch (...) {
            ::_exit(1);
        }
        ::_exit(0);
    }
    PyOS_AfterFork_Parent();
    if (pid < 0) return;
    to.reset();
    learned.resize(receive(from.get(), learned.data(), learned.size() * sizeof(run)) / sizeof(run));
    end(pid);
    runs_ = std::move(learned);
}

void hot_pages::take() const noexcept {
    for (const run& r : runs_)
        if (::madvise(reinterpret_cast<void*>(r.at), r.pages * k_page,
                      r.written != 0 ? k_populate_write : k_populate_read) != 0 &&
            errno == EINVAL)
            return;  // an older kernel
}

}  // namespace cleanfork::python
