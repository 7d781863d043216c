// Which threads of a process a fork would leave behind in the midst of something.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace cleanfork::ipc {

// One thread, from its /proc/PID/task/TID/stat. Allocates nothing: it is for the midst of a
// fork too, where a handler of pthread_atfork(3) may hold the locks of malloc.
class thread_state {
public:
    enum class kind {
        hazardous,
        // It is ending and runs no code of the process any more, though /proc has it for a
        // moment still; or it is jemalloc's, which stops it at every fork by its own handlers.
        harmless,
        gone,
    };
    // `tasks`: an open /proc/PID/task.
    kind read(int tasks, const char* thread) noexcept;
    // As the process chose it; valid until the next read().
    [[nodiscard]] std::string_view name() const noexcept { return name_; }

private:
    std::array<char, 256> buffer_{};
    std::string_view name_;
};

// The threads of this process but the calling one, which are hazardous now. Their names are
// put into `names`, as many as have room, separated by ", " and with a zero at the end.
// Allocates nothing. None at all: there is no /proc to see them in.
std::optional<std::size_t> hazardous_threads(char* names = nullptr, std::size_t size = 0) noexcept;

}  // namespace cleanfork::ipc
