#include "forkserver/daemon/log.hpp"

#include <array>
#include <cstdio>
#include <ctime>
#include <new>

#include "ipc/base/timestamp.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::array<std::string_view, 4> k_names{"debug", "info", "warning", "error"};

std::string now() {
    timespec at{};
    ::clock_gettime(CLOCK_REALTIME, &at);
    return ipc::timestamp(at);
}

// Quoted where it would not read back as one word: a peer chooses some values,
// and must not be able to forge a line.
void append_value(std::string& line, std::string_view v) {
    const bool plain =
        !v.empty() && v.find_first_of(" \"\\=") == std::string_view::npos &&
        v.find_first_not_of(
            "!#$%&'()*+,-./"
            "0123456789:;<>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~") ==
            std::string_view::npos;
    if (plain) {
        line += v;
        return;
    }
    line += '"';
    for (const char c : v) {
        if (c == '"' || c == '\\') {
            line += '\\';
            line += c;
        } else if (static_cast<unsigned char>(c) < ' ' || c == 127) {
            std::array<char, 8> hex{};
            std::snprintf(hex.data(), hex.size(), "\\x%02x", static_cast<unsigned char>(c));
            line += hex.data();
        } else {
            line += c;
        }
    }
    line += '"';
}

}  // namespace

void logger::write(log_level level, std::string_view event,
                   std::initializer_list<log_field> fields) try {
    if (watcher_ != nullptr && (watches_all_ || level >= least_))
        watcher_->on_line(level, event, fields);
    if (level < least_) return;
    std::string line = "time=" + now() + " level=";
    line += k_names.at(static_cast<std::size_t>(level));
    line += " event=";
    line += event;
    for (const log_field& f : fields) {
        if (f.is_private) continue;
        line += ' ';
        line += f.key;
        line += '=';
        if (const auto* text = std::get_if<std::string_view>(&f.value))
            append_value(line, *text);
        else if (const auto* number = std::get_if<std::int64_t>(&f.value))
            line += std::to_string(*number);
        else
            line += std::to_string(std::get<std::uint64_t>(f.value));
    }
    if (dropped_ != 0) line += " dropped_before=" + std::to_string(dropped_);
    line += '\n';
    if (output_.write(line))
        dropped_ = 0;
    else
        ++dropped_;
} catch (const std::bad_alloc&) {  // what is told is not for a line of the log to end
    ++dropped_;
}

}  // namespace cleanfork::daemon
