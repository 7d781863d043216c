// What a child of a template does with single descriptors of its call.
#pragma once

#include <sys/stat.h>

#include <cleanfork/failure.hpp>
#include <string_view>

#include "forkserver/spawn/plan.hpp"
#include "ipc/wire/lease.hpp"

namespace cleanfork::templates {

// The payload in a memfd or file, which stays open. Its bytes live as long as the process.
result<std::string_view> map_payload(int fd);

// `fd`, moved away when a descriptor of the call is to get its number.
result<int> out_of_the_way(const spawn::plan& p, int fd);

// One word of ipc/wire/lease.hpp through a pipe. SIGPIPE is the caller's to think of.
void tell_word(int fd, ipc::lease_word_kind kind, int code = 0,
               std::string_view text = {}) noexcept;

// The pipe through which the caller is told that the entry has returned.
class answer_place {
public:
    answer_place() = default;
    // Borrowed. Nobody is told when it is -1.
    explicit answer_place(int fd) noexcept;

    // Nothing when the entry has closed it: its number may be another file's by then. SIGPIPE is
    // ignored from then on, since nobody may read it any more.
    void tell(int code, std::string_view text) const noexcept;

private:
    int fd_ = -1;
    struct stat about_ {};
};

}  // namespace cleanfork::templates
