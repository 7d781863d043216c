// How a child ended. Never invented: what is not known is `unknown`, with the reason.
#pragma once

#include <chrono>
#include <cleanfork/export.hpp>
#include <cstdint>
#include <string>

namespace cleanfork {

// getrusage(2) of the child and the descendants it waited for. All zero in a
// status recovered after the forkserver was lost.
struct resource_usage {
    std::chrono::microseconds user{};
    std::chrono::microseconds system{};
    std::uint64_t max_rss_kib = 0;
    std::uint64_t minor_faults = 0;
    std::uint64_t major_faults = 0;
    std::uint64_t blocks_in = 0;
    std::uint64_t blocks_out = 0;
    std::uint64_t voluntary_switches = 0;
    std::uint64_t involuntary_switches = 0;
};

class CLEANFORK_EXPORT exit_status {
public:
    enum class kind { exited, signaled, unknown };

    exit_status() = default;
    static exit_status exited(int code);
    static exit_status signaled(int signal, bool core_dumped);
    static exit_status unknown(std::string why);
    // From the status of wait(2) (or of PIDFD_GET_INFO).
    static exit_status from_wait_status(int status);

    [[nodiscard]] kind how() const noexcept { return how_; }
    [[nodiscard]] bool is_exited() const noexcept { return how_ == kind::exited; }
    [[nodiscard]] bool is_signaled() const noexcept { return how_ == kind::signaled; }
    [[nodiscard]] bool is_unknown() const noexcept { return how_ == kind::unknown; }
    // exited with code 0
    [[nodiscard]] bool success() const noexcept { return is_exited() && number_ == 0; }

    // The exit code; -1 unless is_exited().
    [[nodiscard]] int code() const noexcept { return is_exited() ? number_ : -1; }
    // The signal; 0 unless is_signaled().
    [[nodiscard]] int signal() const noexcept { return is_signaled() ? number_ : 0; }
    [[nodiscard]] bool core_dumped() const noexcept { return core_dumped_; }
    // Why it is unknown; empty otherwise.
    [[nodiscard]] const std::string& why() const noexcept { return why_; }

    // As a shell would: the code, 128+signal, or 125 when unknown.
    [[nodiscard]] int shell_code() const noexcept;
    // "exited 3", "killed by SIGSEGV (core dumped)", "unknown: forkserver lost"
    [[nodiscard]] std::string to_string() const;

    friend bool operator==(const exit_status&, const exit_status&) = default;

private:
    kind how_ = kind::unknown;
    int number_ = 0;
    bool core_dumped_ = false;
    std::string why_;
};

}  // namespace cleanfork
