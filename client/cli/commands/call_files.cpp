#include "client/cli/commands/call_files.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::cli {

namespace {

constexpr std::size_t k_piece = 1 << 20;

bad_value failed(const std::string& what, int error_number) {
    return {what + ": " + std::strerror(error_number)};
}

// The next piece, from `offset` or, when that is negative, from where the file is.
ssize_t read_piece(int fd, std::vector<char>& into, off_t offset) {
    return ipc::retry([&] {
        return offset < 0 ? ::read(fd, into.data(), into.size())
                          : ::pread(fd, into.data(), into.size(), offset);
    });
}

parsed<unique_fd> read_to_end(int fd, const std::string& name) {
    unique_fd memfd(::memfd_create("cleanfork-payload", MFD_CLOEXEC));
    if (!memfd) return failed("memfd", errno);
    std::vector<char> piece(k_piece);
    for (;;) {
        const ssize_t n = read_piece(fd, piece, -1);
        if (n == 0) return memfd;
        if (n < 0) return failed(name, errno);
        if (const int error =
                ipc::write_all(memfd.get(), {piece.data(), static_cast<std::size_t>(n)}))
            return failed(name, error);
    }
}

// Files of /proc are regular and of size 0, but not empty. What was read already
// of standard input is not of the payload.
bool usable_as_it_is(int fd) {
    struct stat about {};
    return ::fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && about.st_size > 0 &&
           ::lseek(fd, 0, SEEK_CUR) == 0;
}

}  // namespace

parsed<payload_source> payload_source::open(const std::optional<std::string>& text,
                                            const std::optional<std::string>& path) {
    payload_source source;
    if (text) source.text_ = *text;
    if (!path) return source;
    const bool input = *path == "-";
    const std::string name = input ? "standard input" : *path;
    source.file_ = input ? ipc::dup_fd(STDIN_FILENO)
                         : unique_fd(::open(path->c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!source.file_) return failed(name, errno);
    if (usable_as_it_is(source.file_.get())) return source;
    auto memfd = read_to_end(source.file_.get(), name);
    if (!memfd) return memfd.error();
    source.file_ = std::move(*memfd);
    return source;
}

payload payload_source::value() const {
    if (file_) return stdio::descriptor{file_.get()};
    return text_;
}

parsed<result_sink> result_sink::open(const std::optional<std::string>& path) {
    result_sink sink;
    sink.name_ = "standard output";
    if (!path || *path == "-") return sink;
    sink.name_ = *path;
    // Emptied when there is something to put into it.
    sink.file_.reset(::open(path->c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666));
    if (!sink.file_) return failed(*path, errno);
    return sink;
}

std::string result_sink::write(const unique_fd& answer) const {
    const int to = file_ ? file_.get() : STDOUT_FILENO;
    struct stat about {};
    if (file_ && ::fstat(to, &about) == 0 && S_ISREG(about.st_mode) && ::ftruncate(to, 0) != 0)
        return failed(name_, errno).why;
    std::vector<char> piece(k_piece);
    for (off_t done = 0;;) {
        const ssize_t n = read_piece(answer.get(), piece, done);
        if (n < 0) return failed("the result", errno).why;
        if (n == 0) return {};
        if (const int error = ipc::write_all(to, {piece.data(), static_cast<std::size_t>(n)}))
            return failed(name_, error).why;
        done += n;
    }
}

}  // namespace cleanfork::cli
