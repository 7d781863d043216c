#include "client/cli/foreground/typed_input.hpp"

#include <array>

namespace cleanfork::cli {

namespace {

// N_TTY_BUF_SIZE of the kernel is 4,096, the newline included.
constexpr std::size_t k_most_of_a_line = 4094;

constexpr char k_usual_end_of_file = 4;

bool by_lines(const termios& modes) noexcept { return (modes.c_lflag & ICANON) != 0; }

// 0 is no key (_POSIX_VDISABLE).
char key(const termios& modes, int which) noexcept { return static_cast<char>(modes.c_cc[which]); }

// Whether a terminal with `modes` would do something else with it than hand it over.
class special_bytes {
public:
    explicit special_bytes(const termios& modes) {
        if (!by_lines(modes) || (modes.c_lflag & IEXTEN) == 0 || key(modes, VLNEXT) == 0) return;
        for (const int which : {VLNEXT, VEOF, VEOL, VEOL2, VERASE, VKILL, VWERASE, VREPRINT})
            add(key(modes, which));
        if ((modes.c_lflag & ISIG) != 0)
            for (const int which : {VINTR, VQUIT, VSUSP}) add(key(modes, which));
        if ((modes.c_iflag & IXON) != 0)
            for (const int which : {VSTART, VSTOP}) add(key(modes, which));
        if ((modes.c_iflag & (ICRNL | IGNCR)) != 0) add('\r');
    }

    [[nodiscard]] bool contain(char byte) const {
        return special_[static_cast<unsigned char>(byte)];
    }

private:
    void add(char byte) {
        if (byte != 0) special_[static_cast<unsigned char>(byte)] = true;
    }

    std::array<bool, 256> special_{};
};

}  // namespace

std::string typed_input::type(std::string_view bytes, const termios& modes) {
    if (!by_lines(modes)) {
        column_ = 0;
        return std::string(bytes);
    }
    const special_bytes special(modes);
    const char end_of_file = key(modes, VEOF);
    std::string keys;
    keys.reserve(bytes.size());
    for (const char byte : bytes) {
        if (byte == '\n') {
            keys += byte;
            column_ = 0;
            continue;
        }
        if (column_ == k_most_of_a_line && end_of_file != 0) {
            keys += end_of_file;
            column_ = 0;
        }
        if (special.contain(byte)) keys += key(modes, VLNEXT);
        keys += byte;
        ++column_;
    }
    return keys;
}

std::string typed_input::end(const termios& modes) {
    const char end_of_file = key(modes, VEOF);
    // Within a line the key hands over what there is of it; only at the start it is an end.
    const bool within = column_ != 0;
    column_ = 0;
    if (!by_lines(modes)) return {end_of_file != 0 ? end_of_file : k_usual_end_of_file};
    if (end_of_file == 0) return {};
    return std::string(within ? 2 : 1, end_of_file);
}

}  // namespace cleanfork::cli
