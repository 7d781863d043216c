// The template of tests/faults/: each entry shows by a letter that it has run.
#include <unistd.h>

#include <cleanfork/template.hpp>
#include <csignal>
#include <cstdio>
#include <string>

namespace {

int mark(cleanfork::call& c, char tag) {
    if (::write(c.descriptor("ran"), &tag, 1) != 1) return 97;
    if (c.answer_is_wanted()) c.respond(c.payload());
    const std::string what(c.arguments().at(0));
    if (what == "read") {
        char byte = 0;
        while (::read(0, &byte, 1) == 1) continue;
        return 9;
    }
    if (what != "pause") return std::stoi(what);
    for (;;) ::pause();
}

const cleanfork::entry entries[] = {
    {"mark_m", [](cleanfork::call& c) { return mark(c, 'm'); }},
    {"mark_r", [](cleanfork::call& c) { return mark(c, 'r'); }},
    {"mark_x", [](cleanfork::call& c) { return mark(c, 'x'); }},
    {"exit", [](cleanfork::call& c) { return std::stoi(std::string(c.arguments().at(0))); }},
};

}  // namespace

int main(int argc, char** argv) {
    cleanfork::template_main(argc, argv);
    std::fprintf(stderr, "template_faults: a template for tests/faults\n");
    return 2;
}
