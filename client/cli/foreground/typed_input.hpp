// Bytes of a file or pipe as keys for a terminal, so that its reader gets these bytes.
//
// A terminal that is read line by line (ICANON) cuts a line at 4,095 bytes, and takes some bytes
// for keys: Ctrl-C, Ctrl-D, Ctrl-S. Here each of those follows the key that quotes (VLNEXT), and
// the part of a long line is handed over with the end-of-file key, which ends nothing within a
// line. A program that reads key by key gets all bytes as they are.
#pragma once

#include <termios.h>

#include <cstddef>
#include <string>
#include <string_view>

namespace cleanfork::cli {

class typed_input {
public:
    // What to type for `bytes`, which follow those of the last call.
    std::string type(std::string_view bytes, const termios& modes);

    // What says that nothing more comes. Key by key there is no such thing: the key is typed, and
    // what it means is the program's affair.
    std::string end(const termios& modes);

private:
    std::size_t column_ = 0;  // bytes of the line that its reader was not yet given
};

}  // namespace cleanfork::cli
