#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <system_error>

#include "tests/hazards/scene.hpp"

namespace hazards {

namespace {

int checked(int result, const char* what) {
    if (result < 0) throw std::system_error(errno, std::system_category(), what);
    return result;
}

}  // namespace

pipe_ends make_pipe() {
    int ends[2];
    checked(::pipe2(ends, O_CLOEXEC), "pipe");
    return {cleanfork::unique_fd(ends[0]), cleanfork::unique_fd(ends[1])};
}

pipe_ends make_socket_pair() {
    int ends[2];
    checked(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
    return {cleanfork::unique_fd(ends[0]), cleanfork::unique_fd(ends[1])};
}

cleanfork::unique_fd make_file() {
    const char* directory = std::getenv("TMPDIR");
    const int fd = ::open(directory != nullptr ? directory : "/tmp",
                          O_TMPFILE | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
    return cleanfork::unique_fd(fd >= 0 ? fd
                                        : checked(::memfd_create("hazard", MFD_CLOEXEC), "memfd"));
}

cleanfork::unique_fd opened_anew(int fd) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    return cleanfork::unique_fd(checked(::open(path.c_str(), O_RDWR | O_CLOEXEC), "open"));
}

std::string content_of(int file) {
    std::string content;
    char block[4096];
    for (ssize_t n;
         (n = ::pread(file, block, sizeof block, static_cast<off_t>(content.size()))) > 0;)
        content.append(block, static_cast<std::size_t>(n));
    return content;
}

bool readable(int fd, milliseconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    for (;;) {
        const auto left =
            std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now());
        pollfd p{.fd = fd, .events = POLLIN, .revents = 0};
        const int n = ::poll(&p, 1, static_cast<int>(std::max(0ms, left).count()));
        if (n >= 0 || errno != EINTR) return n > 0;
    }
}

std::string read_all(int fd, milliseconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    std::string content;
    char block[4096];
    for (;;) {
        const auto left =
            std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now());
        if (!readable(fd, std::max(0ms, left))) return content;
        const ssize_t n = ::read(fd, block, sizeof block);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return content;
        content.append(block, static_cast<std::size_t>(n));
    }
}

bool read_exactly(int fd, void* to, std::size_t size) {
    for (std::size_t done = 0; done < size;) {
        const ssize_t n = ::read(fd, static_cast<char*>(to) + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += static_cast<std::size_t>(n);
    }
    return true;
}

void write_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = ::write(fd, text.data(), text.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;  // the reader is gone: it is the one to notice
        text.remove_prefix(static_cast<std::size_t>(n));
    }
}

std::size_t count(const std::string& text, const std::string& what) {
    std::size_t found = 0;
    for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size()))
        ++found;
    return found;
}

}  // namespace hazards
