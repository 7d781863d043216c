// Which process an object belongs to.
#pragma once

#include <unistd.h>

namespace cleanfork::detail {

// A destructor that ends or tells something asks this first: a forked copy of the program runs
// it too, when it calls exit(). A copy may close its descriptors and nothing else.
class owning_process {
public:
    [[nodiscard]] bool is_this() const noexcept { return pid_ == ::getpid(); }

private:
    pid_t pid_ = ::getpid();
};

}  // namespace cleanfork::detail
