#include "ipc/audit/thread_origins.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cleanfork/unique_fd.hpp>
#include <sstream>

#include "ipc/base/proc.hpp"

namespace cleanfork::ipc {

namespace {

// What starts threads for others: the start address is of these, the library is further on.
constexpr std::array k_runtimes = {"ld-linux",   "ld-musl",   "libc.",    "libc-",
                                   "libpthread", "libstdc++", "libc++",   "libgcc_s",
                                   "libasan",    "libtsan",   "libubsan", "liblsan"};
constexpr int k_most_asked = 8;  // a refusal names no more
// Of pthread's block about a thread, from its list of robust locks on, with the start address
// in it: glibc 2.36 has it 0x360 further on in a block of 0x900 bytes.
constexpr std::uintptr_t k_after_list = 0x620;
constexpr std::uintptr_t k_most_of_stack = 256 << 10;
constexpr std::uintptr_t k_page = 4096;

bool is_runtime(const std::string& path) {
    const std::string name = path.substr(path.rfind('/') + 1);
    return std::any_of(k_runtimes.begin(), k_runtimes.end(),
                       [&name](const char* known) { return name.starts_with(known); });
}

std::uintptr_t robust_list_of(int thread) {
    void* head = nullptr;
    std::size_t size = 0;
    return ::syscall(SYS_get_robust_list, thread, &head, &size) == 0
               ? reinterpret_cast<std::uintptr_t>(head)
               : 0;
}

// "202 0x7f... 0x80 ... SP PC", "-1 SP PC", or "running".
std::uintptr_t stack_pointer_of(const std::string& text) {
    std::istringstream words(text);
    std::vector<std::string> all;
    for (std::string word; words >> word;) all.push_back(std::move(word));
    if (all.size() < 3) return 0;
    const std::string& sp = all[all.size() - 2];
    return sp.starts_with("0x") ? to_number<std::uintptr_t>(sp.substr(2), 16) : 0;
}

}  // namespace

void thread_origins::read_mappings(const char* thread) {
    std::istringstream lines(read_file(tasks_, std::string(thread) + "/maps").value_or(""));
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string range, access, offset, device, node, path;
        words >> range >> access >> offset >> device >> node >> std::ws;
        std::getline(words, path);
        const std::size_t dash = range.find('-');
        if (dash == std::string::npos || access.size() < 3) continue;
        const bool counts = access[2] == 'x' && path.starts_with('/') && !is_runtime(path);
        mappings_.push_back({to_number<std::uintptr_t>(range, 16),
                             to_number<std::uintptr_t>(range.substr(dash + 1), 16),
                             counts ? path : std::string()});
    }
}

const thread_origins::mapping* thread_origins::at(std::uintptr_t address) const {
    const auto after =
        std::upper_bound(mappings_.begin(), mappings_.end(), address,
                         [](std::uintptr_t a, const mapping& m) { return a < m.from; });
    if (after == mappings_.begin()) return nullptr;
    const mapping& m = *std::prev(after);
    return address < m.to ? &m : nullptr;
}

// From the end: what a thread was started to run lies above what it calls.
std::string thread_origins::search(int memory, std::uintptr_t from, std::uintptr_t to) const {
    from &= ~(sizeof from - 1);
    std::vector<std::uintptr_t> words((to - from) / sizeof from);
    const ssize_t size =
        ::pread(memory, words.data(), words.size() * sizeof words[0], static_cast<off_t>(from));
    if (size <= 0) return {};
    words.resize(static_cast<std::size_t>(size) / sizeof words[0]);
    for (auto word = words.rbegin(); word != words.rend(); ++word) {
        // A size, as of the stack: it may be an address in a program that is not moved (no PIE).
        if (*word % k_page == 0) continue;
        if (const mapping* m = at(*word); m != nullptr && !m->path.empty()) return m->path;
    }
    return {};
}

std::string thread_origins::of(const char* thread, int number) {
    if (++asked_ > k_most_asked) return {};
    const std::string base(thread);
    const unique_fd memory(::openat(tasks_, (base + "/mem").c_str(), O_RDONLY | O_CLOEXEC));
    if (!memory) return {};
    if (mappings_.empty()) read_mappings(thread);
    const std::uintptr_t list = robust_list_of(number);
    std::uintptr_t sp = stack_pointer_of(read_line(tasks_, base + "/syscall"));
    const mapping* stack = at(list != 0 ? list : sp);
    if (stack == nullptr) return {};
    std::uintptr_t top = list != 0 ? list + k_after_list : sp + k_most_of_stack;
    top = std::min(top, stack->to);
    if (sp < stack->from || sp >= top) sp = stack->from;  // it runs, or is on another stack
    return search(memory.get(), std::max(sp, top - std::min(top, k_most_of_stack)), top);
}

}  // namespace cleanfork::ipc
