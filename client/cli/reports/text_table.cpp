#include "client/cli/reports/text_table.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

namespace cleanfork::cli {

std::string table(const std::vector<row>& rows, const std::vector<std::size_t>& right,
                  std::size_t width) {
    std::vector<std::size_t> widths;
    for (const row& r : rows) {
        widths.resize(std::max(widths.size(), r.size()));
        for (std::size_t i = 0; i < r.size(); ++i) widths[i] = std::max(widths[i], r[i].size());
    }
    std::string text;
    for (const row& r : rows) {
        std::string line;
        for (std::size_t i = 0; i < r.size(); ++i) {
            const std::string padding(widths[i] - r[i].size(), ' ');
            const bool at_right = std::find(right.begin(), right.end(), i) != right.end();
            if (i != 0) line += "  ";
            if (at_right) line += padding;
            line += r[i];
            if (!at_right && i + 1 < r.size()) line += padding;
        }
        if (width != 0 && line.size() > width) line.resize(width);
        text += line + "\n";
    }
    return text;
}

std::size_t output_width() {
    winsize size{};
    return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

namespace {

std::string without_controls(std::string text, std::string_view allowed) {
    for (char& c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte < 0x20 || byte == 0x7f) && allowed.find(c) == std::string_view::npos) c = '?';
    }
    return text;
}

}  // namespace

std::string printable(const std::string& text) { return without_controls(text, ""); }

std::string printable_lines(const std::string& text) { return without_controls(text, "\n\t"); }

}  // namespace cleanfork::cli
