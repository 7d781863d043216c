// What tests/faults/ starts: fault_program TAG CODE|pause|deaf|read|lines.
// It writes TAG into descriptor 3, where it has one, to show that it has run.
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv) {
    if (argc < 3) return 98;
    const char* const what = argv[2];
    if (std::strcmp(what, "deaf") == 0) {
        std::signal(SIGTERM, SIG_IGN);
        if (::write(1, "d", 1) != 1) return 95;
    }
    if (argv[1][0] != '-' && ::write(3, argv[1], 1) != 1) return 97;
    if (std::strcmp(what, "lines") == 0) return ::write(1, "1\n2\n3\n", 6) == 6 ? 5 : 96;
    if (std::strcmp(what, "read") == 0) {
        char byte = 0;
        while (::read(0, &byte, 1) == 1) continue;
        return 9;
    }
    if (std::strcmp(what, "pause") != 0 && std::strcmp(what, "deaf") != 0) return std::atoi(what);
    for (;;) ::pause();
}
