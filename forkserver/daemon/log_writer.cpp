#include "forkserver/daemon/log_writer.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cleanfork/unique_fd.hpp>
#include <csignal>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::size_t k_chunk = 64 * 1024;  // what a pipe holds
constexpr int k_retry_ms = 1000;

volatile std::sig_atomic_t reopen_asked = 0;

class rotated_log {
public:
    rotated_log(std::string name, std::uint64_t size, unsigned count)
        : name_(std::move(name)), most_(size), count_(count), rotate_at_(size) {}

    // All of it, whatever that takes: a full disk is waited for.
    void write(std::string_view bytes) {
        while (!bytes.empty()) {
            prepare();
            bytes.remove_prefix(append(bytes.substr(0, fitting(bytes))));
        }
    }

private:
    // A file to append to, the right one, with room.
    void prepare() {
        struct stat about {};
        const bool removed = file_ && (::fstat(file_.get(), &about) != 0 || about.st_nlink == 0);
        if (reopen_asked != 0 || removed) {
            reopen_asked = 0;
            open();
        }
        while (!file_ && !open()) pause();
        if (size_ >= rotate_at_) rotate();
    }

    static void pause() { ::poll(nullptr, 0, k_retry_ms); }

    // False, and what was open stays so, when there is no other.
    bool open() {
        unique_fd fd(::openat(k_log_directory, name_.c_str(),
                              O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_NONBLOCK | O_CLOEXEC,
                              0666));
        struct stat about {};
        if (!fd || ::fstat(fd.get(), &about) != 0 || !S_ISREG(about.st_mode)) return false;
        // As the file before it, which its owner may have made readable for others, or for fewer.
        if (mode_ != 0 && about.st_size == 0) ::fchmod(fd.get(), mode_);
        mode_ = mode_ != 0 ? mode_ : about.st_mode & 07777;
        file_ = std::move(fd);
        size_ = static_cast<std::uint64_t>(about.st_size);
        rotate_at_ = std::max(most_, std::uint64_t{1});
        at_line_start_ = true;
        return true;
    }

    // Ends of lines are the places to go on in the next file. A line longer than a file is cut.
    [[nodiscard]] std::size_t fitting(std::string_view bytes) {
        const std::uint64_t room = rotate_at_ > size_ ? rotate_at_ - size_ : most_;
        if (bytes.size() <= room) return bytes.size();
        const auto fits = static_cast<std::size_t>(room);
        const std::size_t line = bytes.rfind('\n', fits - 1);
        if (line != std::string_view::npos) return line + 1;
        if (!at_line_start_ || size_ == 0) return fits;
        rotate();
        return std::min<std::size_t>(bytes.size(), fitted_line(bytes));
    }
    [[nodiscard]] std::size_t fitted_line(std::string_view bytes) const {
        const std::size_t line = bytes.find('\n');
        const auto room = static_cast<std::size_t>(rotate_at_ > size_ ? rotate_at_ - size_ : most_);
        return std::min(line == std::string_view::npos ? bytes.size() : line + 1, room);
    }

    // How many bytes were written: perhaps none.
    std::size_t append(std::string_view bytes) {
        const ssize_t n =
            ipc::retry([&] { return ::write(file_.get(), bytes.data(), bytes.size()); });
        if (n <= 0) {
            pause();
            return 0;
        }
        size_ += static_cast<std::uint64_t>(n);
        at_line_start_ = bytes[static_cast<std::size_t>(n) - 1] == '\n';
        return static_cast<std::size_t>(n);
    }

    [[nodiscard]] std::string old(unsigned number) const {
        return name_ + "." + std::to_string(number);
    }

    // Where it cannot be done the file grows on, and it is tried again when that has doubled.
    void rotate() {
        rotate_at_ = size_ + most_;
        if (!is_in_place()) {  // somebody else has rotated it
            open();
            return;
        }
        if (count_ == 0) {
            if (::ftruncate(file_.get(), 0) == 0) size_ = 0;
            rotate_at_ = most_;
            return;
        }
        for (unsigned i = count_ - 1; i > 0; --i)
            ::renameat(k_log_directory, old(i).c_str(), k_log_directory, old(i + 1).c_str());
        if (::renameat(k_log_directory, name_.c_str(), k_log_directory, old(1).c_str()) == 0)
            open();
    }

    [[nodiscard]] bool is_in_place() const {
        struct stat mine {
        }, there{};
        return ::fstat(file_.get(), &mine) == 0 &&
               ::fstatat(k_log_directory, name_.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
               mine.st_dev == there.st_dev && mine.st_ino == there.st_ino;
    }

    std::string name_;
    std::uint64_t most_;
    unsigned count_;
    std::uint64_t rotate_at_;
    unique_fd file_;
    std::uint64_t size_ = 0;
    mode_t mode_ = 0;
    bool at_line_start_ = true;
};

// It ends when nobody can write any more, and with nothing else than that: what tells the child to
// end must not cost its last words.
void prepare_signals() {
    struct sigaction action {};
    action.sa_handler = [](int) { reopen_asked = 1; };
    ::sigaction(SIGHUP, &action, nullptr);
    for (const int number : {SIGTERM, SIGINT, SIGQUIT, SIGPIPE, SIGXFSZ}) ::signal(number, SIG_IGN);
}

}  // namespace

std::optional<int> write_log_if_asked(int argc, char** argv) {
    if (argc != 5 || std::string_view(argv[1]) != k_log_role) return std::nullopt;
    prepare_signals();
    rotated_log log(argv[2], ipc::to_number<std::uint64_t>(argv[3]),
                    ipc::to_number<unsigned>(argv[4]));
    std::vector<char> part(k_chunk);
    for (;;) {
        const ssize_t n = ::read(k_log_pipe, part.data(), part.size());
        if (n > 0)
            log.write({part.data(), static_cast<std::size_t>(n)});
        else if (n == 0)
            return 0;
        else if (errno != EINTR)
            return 1;
    }
}

}  // namespace cleanfork::daemon
