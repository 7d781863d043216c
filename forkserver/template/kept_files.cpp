#include "forkserver/template/kept_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "ipc/base/proc.hpp"

namespace cleanfork::templates {

namespace {

// Of F_GETFL, what opening anew can give; the rest was for the first time.
constexpr int k_as_opened =
    O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_DIRECT | O_DIRECTORY;
constexpr int k_without_proc = 1024;  // so many numbers are tried

std::vector<int> open_descriptors(std::span<const int> but) {
    std::vector<int> all;
    const auto add = [&](int fd) {
        if (fd > 2 && std::find(but.begin(), but.end(), fd) == but.end()) all.push_back(fd);
    };
    const unique_fd dir(::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (dir)
        ipc::each_number(dir.get(), [&](const char*, int fd) {
            if (fd != dir.get()) add(fd);
        });
    else
        for (int fd = 0; fd < k_without_proc; ++fd)
            if (::fcntl(fd, F_GETFD) >= 0) add(fd);
    std::sort(all.begin(), all.end());
    return all;
}

bool is_harmless_device(dev_t device) {
    const unsigned number = minor(device);  // null, zero, full, random, urandom
    return major(device) == 1 && (number == 3 || number == 5 || (number >= 7 && number <= 9));
}

// Also of a lock of the open file, which the child would not have when that is opened anew.
bool is_locked(int fd) {
    const auto text = ipc::read_file(AT_FDCWD, "/proc/self/fdinfo/" + std::to_string(fd));
    return text && text->find("\nlock:") != std::string::npos;
}

void open_anew(int fd) noexcept {
    const int flags = ::fcntl(fd, F_GETFL);
    const int descriptor_flags = ::fcntl(fd, F_GETFD);
    if (flags < 0 || (flags & O_PATH) != 0) return;  // it has no position
    char path[32];
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const unique_fd opened(::open(path, (flags & k_as_opened) | O_CLOEXEC));
    if (!opened) return;
    if (const off_t at = ::lseek(fd, 0, SEEK_CUR); at > 0) ::lseek(opened.get(), at, SEEK_SET);
    ::dup3(opened.get(), fd, (descriptor_flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0);
}

}  // namespace

bool may_be_in_children(int fd) {
    struct stat file {};
    if (::fstat(fd, &file) != 0) return false;
    if (S_ISCHR(file.st_mode)) return is_harmless_device(file.st_rdev);
    return (S_ISREG(file.st_mode) || S_ISDIR(file.st_mode)) && !is_locked(fd);
}

std::vector<int> not_for_children(std::span<const int> own) {
    std::vector<int> all = open_descriptors(own);
    std::erase_if(all, may_be_in_children);
    return all;
}

void kept_files::note(std::span<const int> own, std::span<const int> closed) {
    std::vector<int> others(own.begin(), own.end());
    others.insert(others.end(), closed.begin(), closed.end());
    numbers_ = open_descriptors(others);
    files_.clear();
    others_.clear();
    for (const int fd : numbers_) (may_be_in_children(fd) ? files_ : others_).push_back(fd);
    if (others_.empty()) return;
    placeholder_.reset(::open("/", O_PATH | O_CLOEXEC));
}

void kept_files::renew() const noexcept {
    for (const int fd : files_) open_anew(fd);
    for (const int fd : others_) {
        const int flags = ::fcntl(fd, F_GETFD);
        ::dup3(placeholder_.get(), fd, (flags & FD_CLOEXEC) != 0 ? O_CLOEXEC : 0);
    }
}

}  // namespace cleanfork::templates
