// What the initialization of a template left open, and what of that is in its children.
#pragma once

#include <sys/types.h>

#include <cleanfork/unique_fd.hpp>
#include <span>
#include <vector>

namespace cleanfork::templates {

// A child may have its own of it: a regular file, a directory, a memfd, /dev/null and the like,
// on which this process holds no lock. Sockets, pipes and what is locked are not.
bool may_be_in_children(int fd);
// The descriptors of this process, but 0 to 2 and `own`, of which that is not so.
std::vector<int> not_for_children(std::span<const int> own);

// A child has each file under its number, opened anew, so that its position is its own and no
// lock is shared. The number of anything else has an O_PATH descriptor in the child: each use
// fails with EBADF, and no file of the child ever gets the number.
class kept_files {
public:
    // In the template, when it is initialized. `own`: of the template's loop; `closed`: closed
    // in the children.
    void note(std::span<const int> own, std::span<const int> closed);
    // At once after the fork, in the child. What cannot be opened anew stays the template's.
    void renew() const noexcept;
    // They are nobody else's in a child.
    [[nodiscard]] const std::vector<int>& numbers() const noexcept { return numbers_; }

private:
    std::vector<int> numbers_, files_, others_;  // the first: both of the latter
    unique_fd placeholder_;                      // for the latter
};

}  // namespace cleanfork::templates
