// A template that asks for no process itself: it needs nothing of the client.
#include <cleanfork/template.hpp>

namespace {

const cleanfork::entry echo("echo", [](cleanfork::call& c) {
    c.respond(c.payload());
    return 0;
});

}  // namespace

int main(int argc, char** argv) {
    cleanfork::template_main(argc, argv);
    return 2;  // not started as a template
}
