// Where children leave the text of an exception: memory they share with their
// template, since a child holds no descriptor of it once the entry runs.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace cleanfork::templates {

class notes {
public:
    // Without memory there are no notes: the exit code still tells.
    notes() noexcept;
    notes(const notes&) = delete;
    notes& operator=(const notes&) = delete;
    ~notes();

    // In the child; `text` is cut at 1,000 bytes.
    void leave(std::uint64_t sequence, std::string_view text) noexcept;
    // It was leased, and ends without a call.
    void leave_unused(std::uint64_t sequence) noexcept;
    struct note {
        std::string text{};
        bool is_unused = false;
    };
    // In the template, once the child has ended; empty when it left none.
    [[nodiscard]] note take(std::uint64_t sequence);

private:
    struct board;
    board* board_ = nullptr;
};

}  // namespace cleanfork::templates
