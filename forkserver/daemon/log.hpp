// Structured log lines on standard error: `time=... level=info event=... key=value`.
//
// Values of environment variables, payloads and arguments are never logged.
// A reader that does not read never blocks the forkserver: lines it has no room
// for are dropped and counted.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

#include "forkserver/daemon/log_output.hpp"

namespace cleanfork::daemon {

enum class log_level { debug, info, warning, error };

struct log_field {
    std::string_view key;
    std::variant<std::string_view, std::int64_t, std::uint64_t> value;
    // For the watcher alone: what is shown to the user whose it is, and never logged.
    bool is_private = false;
};

// Is told each line before it is written.
class log_watcher {
public:
    virtual void on_line(log_level level, std::string_view event,
                         std::initializer_list<log_field> fields) noexcept = 0;

protected:
    ~log_watcher() = default;
};

class logger {
public:
    explicit logger(log_level least) : least_(least) {}

    void set_least(log_level least) noexcept { least_ = least; }

    void debug(std::string_view event, std::initializer_list<log_field> f = {}) {
        write(log_level::debug, event, f);
    }
    void info(std::string_view event, std::initializer_list<log_field> f = {}) {
        write(log_level::info, event, f);
    }
    void warning(std::string_view event, std::initializer_list<log_field> f = {}) {
        write(log_level::warning, event, f);
    }
    void error(std::string_view event, std::initializer_list<log_field> f = {}) {
        write(log_level::error, event, f);
    }

    // Borrowed; null: nobody. Of all levels, or of those that are written.
    void tell(log_watcher* w, bool all_levels) noexcept {
        watcher_ = w;
        watches_all_ = all_levels;
    }

    // See log_output.hpp.
    [[nodiscard]] log_output& output() noexcept { return output_; }

private:
    void write(log_level level, std::string_view event, std::initializer_list<log_field> fields);

    log_level least_;
    log_watcher* watcher_ = nullptr;
    bool watches_all_ = false;
    std::uint64_t dropped_ = 0;
    log_output output_;
};

}  // namespace cleanfork::daemon
