// A program outside the tree that uses the installed package.
#include <boost/asio/io_context.hpp>
#include <cleanfork/client.hpp>
#include <exception>
#include <iostream>
#include <optional>
#include <string>
#include <utility>

namespace {

// The program's context and the library's operations have to be one Asio, within its handlers too.
std::string run_in_context() {
    boost::asio::io_context context;
    std::string said;
    std::optional<cleanfork::client> client;
    cleanfork::async_launch(
        context.get_executor(), {}, [&](std::exception_ptr e, cleanfork::client c) {
            if (e) std::rethrow_exception(e);
            const cleanfork::spawn_options cat{
                .program = "cat", .in = cleanfork::stdio::pipe{}, .out = cleanfork::stdio::pipe{}};
            client = std::move(c);
            client->async_run(
                cat, "in a context",
                [&said](std::exception_ptr, cleanfork::run_result r) { said = r.out; });
        });
    context.run();
    return said;
}

}  // namespace

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

    if (const std::string said = run_in_context(); said != "in a context") {
        std::cerr << "cat wrote \"" << said << "\" in a context\n";
        return 1;
    }
}
