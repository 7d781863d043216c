#include "forkserver/template/child_files.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "ipc/base/sys.hpp"

namespace cleanfork::templates {

// A caller that truncates the file under the mapping harms its own child alone: SIGBUS
// ends that.
result<std::string_view> map_payload(int fd) {
    struct stat st {};
    if (::fstat(fd, &st) != 0) return ipc::fail(step::prepare, errno, "payload");
    if (!S_ISREG(st.st_mode))
        return ipc::fail(step::request, EINVAL, "payload",
                         "its descriptor is no file and no memfd");
    const auto size = static_cast<std::size_t>(st.st_size);
    if (size == 0) return std::string_view();
    void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED) return ipc::fail(step::prepare, errno, "payload");
    return std::string_view(static_cast<const char*>(at), size);
}

namespace {

bool is_target(const spawn::plan& p, int fd) noexcept {
    return std::any_of(p.moves, p.moves + p.move_count,
                       [fd](const spawn::descriptor_move& m) { return m.target == fd; });
}

}  // namespace

result<int> out_of_the_way(const spawn::plan& p, int fd) {
    if (fd < 0 || !is_target(p, fd)) return fd;
    const int moved = ::fcntl(fd, F_DUPFD_CLOEXEC, p.highest_target + 1);
    if (moved < 0) return ipc::fail(step::descriptors, errno, "descriptor " + std::to_string(fd));
    return moved;
}

answer_place::answer_place(int fd) noexcept : fd_(fd) {
    if (fd_ >= 0 && ::fstat(fd_, &about_) != 0) fd_ = -1;
}

void answer_place::tell(int code, std::string_view text) const noexcept {
    struct stat now {};
    if (fd_ < 0 || ::fstat(fd_, &now) != 0 || now.st_dev != about_.st_dev ||
        now.st_ino != about_.st_ino)
        return;
    ::signal(SIGPIPE, SIG_IGN);
    tell_word(fd_, ipc::lease_word_kind::returned, code, text);
}

// So few bytes are written whole or not at all.
void tell_word(int fd, ipc::lease_word_kind kind, int code, std::string_view text) noexcept {
    text = text.substr(0, ipc::k_max_lease_text);
    char packet[sizeof(ipc::lease_word) + ipc::k_max_lease_text];
    const ipc::lease_word word{
        .kind = kind, .code = code, .text_size = static_cast<std::uint32_t>(text.size())};
    std::memcpy(packet, &word, sizeof word);
    text.copy(packet + sizeof word, text.size());
    const std::size_t size = sizeof word + text.size();
    (void)ipc::retry([&] { return ::write(fd, packet, size); });
}

}  // namespace cleanfork::templates
