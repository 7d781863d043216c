// Aligned text for people.
#pragma once

#include <string>
#include <vector>

namespace cleanfork::cli {

using row = std::vector<std::string>;

// Columns two spaces apart, the last one as it is. Numbers (columns in `right`)
// are aligned at their right. Lines longer than `width` are cut; 0: never.
std::string table(const std::vector<row>& rows, const std::vector<std::size_t>& right,
                  std::size_t width);

// The columns of the terminal at standard output; 0 when it is none.
std::size_t output_width();

// `text` on one line: control characters, which could drive a terminal, as '?'.
std::string printable(const std::string& text);
// The same, but with its lines and tabs.
std::string printable_lines(const std::string& text);

}  // namespace cleanfork::cli
