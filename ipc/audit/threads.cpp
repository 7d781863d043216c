#include "ipc/audit/threads.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cleanfork/unique_fd.hpp>
#include <cstdio>
#include <cstring>

#include "ipc/base/proc.hpp"

namespace cleanfork::ipc {

namespace {

// PF_EXITING of the kernel's sched.h. It is set before who joins the thread is woken.
constexpr unsigned long k_exiting = 4;
// Its at-fork handlers hold all of its locks, so this thread waits, and a child has none of
// it and goes on without: background_thread_prefork0() and _postfork_child() of jemalloc.
constexpr std::string_view k_of_jemalloc = "jemalloc_bg_thd";
// "." and "..", then a link for each thread: proc_task_getattr() of the kernel.
constexpr nlink_t k_links_of_one_thread = 3;

// Of what follows the name: " S ppid pgrp session tty tpgid flags ...".
unsigned long flags_of(std::string_view rest) noexcept {
    for (int word = 0; word < 7; ++word) {
        const std::size_t blank = rest.find(' ');
        if (blank == std::string_view::npos) return 0;
        rest.remove_prefix(blank + 1);
    }
    return to_number<unsigned long>(rest);
}

}  // namespace

thread_state::kind thread_state::read(int tasks, const char* thread) noexcept {
    name_ = {};
    char path[32];
    std::snprintf(path, sizeof path, "%s/stat", thread);
    const unique_fd file(::openat(tasks, path, O_RDONLY | O_CLOEXEC));
    const ssize_t size = file ? ::read(file.get(), buffer_.data(), buffer_.size()) : -1;
    if (size <= 0) return errno == EACCES || errno == EMFILE ? kind::hazardous : kind::gone;
    const std::string_view text(buffer_.data(), static_cast<std::size_t>(size));
    // The name may have anything in it, a parenthesis too.
    const std::size_t from = text.find('('), to = text.rfind(')');
    if (from == std::string_view::npos || to == std::string_view::npos) return kind::hazardous;
    name_ = text.substr(from + 1, to - from - 1);
    const bool ends = (flags_of(text.substr(to + 1)) & k_exiting) != 0;
    return ends || name_ == k_of_jemalloc ? kind::harmless : kind::hazardous;
}

std::optional<std::size_t> hazardous_threads(char* names, std::size_t size) noexcept {
    if (size > 0) *names = '\0';
    struct stat tasks {};
    if (::stat("/proc/self/task", &tasks) != 0) return std::nullopt;
    if (tasks.st_nlink <= k_links_of_one_thread) return 0;
    const unique_fd dir(::open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir) return std::nullopt;
    // The number that this /proc has for it, which may be of another pid namespace.
    char link[64] = {};
    const ssize_t length = ::readlink("/proc/thread-self", link, sizeof link - 1);
    const char* const last = length > 0 ? std::strrchr(link, '/') : nullptr;
    const int own = last != nullptr ? to_number(last + 1) : ::gettid();
    std::size_t count = 0, used = 0;
    each_number(dir.get(), [&](const char* thread, int number) {
        thread_state state;
        if (number == own || state.read(dir.get(), thread) != thread_state::kind::hazardous) return;
        const std::string_view before = count++ == 0 ? "" : ", ";
        if (used + before.size() + state.name().size() >= size) return;
        for (const std::string_view part : {before, state.name()}) {
            std::memcpy(names + used, part.data(), part.size());
            used += part.size();
        }
        names[used] = '\0';
    });
    return count;
}

}  // namespace cleanfork::ipc
