#include "client/cli/foreground/terminal_modes.hpp"

#include <unistd.h>

#include <array>
#include <csignal>

namespace cleanfork::cli {

namespace {

// What would end this process without a destructor being run. The signals that
// are forwarded to the child do not end it.
constexpr std::array k_fatal_signals = {SIGSEGV, SIGBUS, SIGFPE,  SIGILL,
                                        SIGABRT, SIGSYS, SIGTRAP, SIGXCPU};

// For the handler only, which can be given nothing else.
volatile std::sig_atomic_t raw_tty = -1;
termios raw_saved;

void restore_and_die(int number) {
    // SA_RESETHAND has made the disposition default; tcsetattr is async-signal-safe.
    if (raw_tty >= 0) ::tcsetattr(raw_tty, TCSANOW, &raw_saved);
    ::raise(number);
}

void catch_fatal_signals() noexcept {
    struct sigaction action {};
    action.sa_handler = &restore_and_die;
    action.sa_flags = SA_RESETHAND | SA_NODEFER;
    for (const int number : k_fatal_signals) {
        struct sigaction before {};
        // What a sanitizer or the caller of this process has set stays.
        if (::sigaction(number, nullptr, &before) == 0 && before.sa_handler == SIG_DFL)
            ::sigaction(number, &action, nullptr);
    }
}

}  // namespace

terminal_modes::terminal_modes(int tty) noexcept
    : tty_(tty), terminal_(::tcgetattr(tty, &saved_) == 0) {}

terminal_modes::~terminal_modes() { restore(); }

bool terminal_modes::in_foreground() const noexcept { return ::tcgetpgrp(tty_) == ::getpgrp(); }

void terminal_modes::enter_raw() noexcept {
    if (!terminal_ || !in_foreground()) return;
    if (raw_tty < 0) {
        raw_saved = saved_;
        catch_fatal_signals();
        raw_tty = tty_;
    }
    termios raw = saved_;
    ::cfmakeraw(&raw);
    // Not flushed: what was typed ahead belongs to the child.
    ::tcsetattr(tty_, TCSANOW, &raw);
}

void terminal_modes::restore() noexcept {
    if (raw_tty < 0) return;
    if (in_foreground()) ::tcsetattr(tty_, TCSANOW, &saved_);
    raw_tty = -1;
}

}  // namespace cleanfork::cli
