// A program that forks itself early into a template; prints what a call of it answered.
//
//     template_early            calls, prints the answer and the pids' relation
//     template_early thread     starts a thread first: start_early() must refuse
//     template_early serve      prints the pids of forkserver and template, waits for its input's
//     end
#include <unistd.h>

#include <cleanfork/client.hpp>
#include <cleanfork/template.hpp>
#include <iostream>
#include <mutex>
#include <string_view>
#include <thread>

namespace {

std::string loaded = "nothing";
std::string in_program = "before main";

const cleanfork::initialization load([] { loaded = "by the template"; });
const cleanfork::entry tell("tell", [](cleanfork::call& c) {
    c.respond(loaded + ", " + in_program + ", payload " + std::string(c.payload()));
    return 3;
});

}  // namespace

int main(int argc, char** argv) {
    const std::string_view how = argc > 1 ? argv[1] : "";
    std::mutex held;
    const std::lock_guard lock(held);
    if (how == "thread") std::thread([&held] { const std::lock_guard wait(held); }).detach();
    in_program = "in main";
    auto socket = cleanfork::try_start_early();
    if (!socket) {
        std::cout << socket.error().message() << std::endl;
        ::_exit(1);
    }
    in_program = "later";
    const cleanfork::client c = cleanfork::attach(std::move(*socket));
    const auto r = c.run_call("self", "tell", "x", {.result = true});
    std::cout << r.status.to_string() << ": " << r.result() << '\n'
              << "loaded here: " << loaded << std::endl;
    if (how == "serve") {
        std::cout << c.server().pid << ' ' << c.template_info("self").current()->pid << std::endl;
        for (char byte; ::read(STDIN_FILENO, &byte, 1) > 0;) {
        }
    }
    return 0;
}
