// The modes of the user's terminal: saved once, raw while a pty is relayed,
// restored on every way out that a process can see.
//
// One at a time: the handler of fatal signals has to find it.
#pragma once

#include <termios.h>

namespace cleanfork::cli {

class terminal_modes {
public:
    // `tty` is borrowed and outlives this. When it is no terminal, all calls do nothing.
    explicit terminal_modes(int tty) noexcept;
    ~terminal_modes();
    terminal_modes(const terminal_modes&) = delete;
    terminal_modes& operator=(const terminal_modes&) = delete;

    [[nodiscard]] bool is_terminal() const noexcept { return terminal_; }
    // As they were at construction; only if is_terminal().
    [[nodiscard]] const termios& saved() const noexcept { return saved_; }

    // Only in the foreground: a background process must not touch them.
    void enter_raw() noexcept;
    void restore() noexcept;

private:
    [[nodiscard]] bool in_foreground() const noexcept;

    int tty_;
    termios saved_{};
    bool terminal_;  // after saved_, which its initializer fills
};

}  // namespace cleanfork::cli
