// What is typed on a terminal for the bytes of a file or pipe.
#include "client/cli/foreground/typed_input.hpp"

#include <doctest/doctest.h>

#include <initializer_list>
#include <string>

using cleanfork::cli::typed_input;

namespace {

// As a new terminal of Linux has them.
termios usual_modes() {
    termios modes{};
    modes.c_iflag = ICRNL | IXON;
    modes.c_lflag = ISIG | ICANON | IEXTEN;
    modes.c_cc[VINTR] = 3;
    modes.c_cc[VQUIT] = 28;
    modes.c_cc[VERASE] = 127;
    modes.c_cc[VKILL] = 21;
    modes.c_cc[VEOF] = 4;
    modes.c_cc[VSTART] = 17;
    modes.c_cc[VSTOP] = 19;
    modes.c_cc[VSUSP] = 26;
    modes.c_cc[VREPRINT] = 18;
    modes.c_cc[VWERASE] = 23;
    modes.c_cc[VLNEXT] = 22;
    return modes;
}

}  // namespace

TEST_CASE("text is typed as it is") {
    typed_input t;
    CHECK(t.type("one\ntwo", usual_modes()) == "one\ntwo");
    CHECK(t.type(std::string("\0\x01\xff", 3), usual_modes()) == std::string("\0\x01\xff", 3));
}

TEST_CASE("what a terminal takes for a key is quoted, and only that") {
    for (const char key :
         std::initializer_list<char>{3, 28, 127, 21, 4, 17, 19, 26, 18, 23, 22, 13})
        CHECK(typed_input().type({&key, 1}, usual_modes()) == std::string{22, key});
    termios modes = usual_modes();
    modes.c_lflag &= ~static_cast<tcflag_t>(ISIG);
    modes.c_iflag = 0;
    for (const char key : std::initializer_list<char>{3, 28, 26, 17, 19, 13})
        CHECK(typed_input().type({&key, 1}, modes) == std::string{key});
}

TEST_CASE("one who reads key by key gets the bytes as they are") {
    termios modes = usual_modes();
    modes.c_lflag &= ~static_cast<tcflag_t>(ICANON);
    const std::string all = "\x03\x04\x16\r" + std::string(10'000, 'a');
    typed_input t;
    CHECK(t.type(all, modes) == all);
    CHECK(t.end(modes) == "\x04");
}

TEST_CASE("a long line is handed over in parts, a line that fits is not") {
    const std::string fits(4094, 'a');
    typed_input t;
    CHECK(t.type(fits + "\n", usual_modes()) == fits + "\n");
    CHECK(t.type(fits + "b\n", usual_modes()) == fits + "\x04" + "b\n");
    // Also when it comes in pieces.
    CHECK(t.type(fits.substr(1), usual_modes()) == fits.substr(1));
    CHECK(t.type("bc", usual_modes()) ==
          "b\x04"
          "c");
}

TEST_CASE("the end of input ends a line that has begun, and then the input") {
    CHECK(typed_input().end(usual_modes()) == "\x04");
    typed_input t;
    (void)t.type("begun", usual_modes());
    CHECK(t.end(usual_modes()) == "\x04\x04");
    CHECK(t.end(usual_modes()) == "\x04");
    (void)t.type("whole\n", usual_modes());
    CHECK(t.end(usual_modes()) == "\x04");
    termios none = usual_modes();
    none.c_cc[VEOF] = 0;
    CHECK(typed_input().end(none).empty());
}
