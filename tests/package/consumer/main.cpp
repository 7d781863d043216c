// A program outside the tree that uses the installed package.
#include <cleanfork/client.hpp>
#include <iostream>

int main() {
    cleanfork::client client = cleanfork::launch();

    const auto run = client.run({.program = "tr",
                                 .args = {"a-z", "A-Z"},
                                 .in = cleanfork::stdio::pipe{},
                                 .out = cleanfork::stdio::pipe{}},
                                "from the package");
    if (run.out != "FROM THE PACKAGE" || !run.status.success()) {
        std::cerr << "tr wrote \"" << run.out << "\"\n";
        return 1;
    }

    const auto missing = client.try_spawn({.program = "/no/such/program"});
    if (!missing.has_error() || missing.error().step != cleanfork::step::exec) {
        std::cerr << "a missing program was not reported as one\n";
        return 1;
    }
    std::cout << missing.error().message() << '\n';
}
