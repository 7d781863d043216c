// Which library a thread belongs to: by the code it was started to run. Not for others.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace cleanfork::ipc {

class thread_origins {
public:
    // `tasks`: an open /proc/PID/task, borrowed. Nothing is read before it is asked for.
    explicit thread_origins(int tasks) noexcept : tasks_(tasks) {}

    // The path of the object file, libc and the like passed over; empty when that cannot be
    // seen: it takes what attaching with ptrace(2) takes, or one's own process.
    std::string of(const char* thread, int number);

private:
    struct mapping {
        std::uintptr_t from, to;
        std::string path;  // of code that counts; empty: of anything else
    };
    void read_mappings(const char* thread);
    [[nodiscard]] const mapping* at(std::uintptr_t address) const;
    std::string search(int memory, std::uintptr_t from, std::uintptr_t to) const;

    const int tasks_;
    int asked_ = 0;
    std::vector<mapping> mappings_;  // by address
};

}  // namespace cleanfork::ipc
