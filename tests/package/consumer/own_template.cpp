// A program outside the tree that is its own template.
#include <cleanfork/client.hpp>
#include <cleanfork/template.hpp>
#include <iostream>
#include <string>

namespace {

std::string loaded = "nothing";
const cleanfork::initialization load([] { loaded = "the template's"; });
const cleanfork::entry tell("tell", [](cleanfork::call& c) {
    c.respond(loaded + " " + std::string(c.payload()));
    return 3;
});

}  // namespace

int main(int argc, char** argv) {
    cleanfork::template_main(argc, argv);
    const cleanfork::client client = cleanfork::launch();
    client.add_template("self", cleanfork::template_options::self());
    const auto r = client.run_call("self", "tell", "payload", {.result = true});
    if (r.result() != "the template's payload" || r.status.code() != 3 || loaded != "nothing") {
        std::cerr << "tell " << r.status.to_string() << ", answered \"" << r.result() << "\"\n";
        return 1;
    }
    const auto missing = client.try_call("self", "nobody");
    if (!missing.has_error() || missing.error().step != cleanfork::step::entry) {
        std::cerr << "a missing entry was not reported as one\n";
        return 1;
    }
    std::cout << missing.error().message() << '\n';
}
