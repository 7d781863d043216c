// Where log lines go: standard error, whatever it is, without ever waiting for it.
//
// A pipe or a terminal is opened anew, so that O_NONBLOCK is of this process alone: set on the
// description that others share it would be theirs too. A socket has a flag for each call. What
// can be neither is asked for room first and given no more than fits for sure.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <string>
#include <string_view>

namespace cleanfork::daemon {

class log_output {
public:
    // Of standard error as it is now; before that lines are written with care, as said above.
    // To be called once the descriptors are put right. The copy is CLOEXEC.
    void attach() noexcept;
    // What attach() has opened, to be put at another number.
    [[nodiscard]] unique_fd& own() noexcept { return own_; }

    // A whole line, with its end. False: there was no room and nothing of it was or will be
    // written. What a pipe takes of a line only in part comes with the next one.
    bool write(std::string_view line);

private:
    [[nodiscard]] long write_some(std::string_view bytes) const noexcept;
    // True when nothing is left of `bytes`; what is written is taken off.
    bool write_down(std::string_view& bytes) const noexcept;

    enum class kind { cautious, socket, own, file };
    kind kind_ = kind::cautious;
    unique_fd own_;
    std::string rest_;  // of a line that was begun
};

}  // namespace cleanfork::daemon
