// A template whose entries do what an entry should not, and whose initialization waits:
// while TEMPLATE_HOLD names a file that exists, for what is written to it (a FIFO), which is
// what the initialization then throws; nothing: it goes on.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cleanfork/template.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

using cleanfork::call;

namespace {

[[noreturn]] void wait_for_ever() {
    for (;;) ::pause();
}

void say(const call& c, const char* name, char what) {
    if (::write(c.descriptor(name), &what, 1) != 1) ::_exit(99);
}

// Executes its arguments, the first of which is a path.
int execute(call& c) {
    std::vector<std::string> words(c.arguments().begin(), c.arguments().end());
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (std::string& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    ::execv(argv[0], argv.data());
    return errno;
}

int sum_of(std::string_view bytes) {
    unsigned sum = 0;
    for (const char b : bytes) sum += static_cast<unsigned char>(b);
    return static_cast<int>(sum % 251);
}

// Says on `ready` that it runs, and ends by its argument when `go` is at its end.
int wait_for(call& c) {
    say(c, "ready", 'r');
    char byte;
    while (::read(c.descriptor("go"), &byte, 1) > 0) {
    }
    return c.arguments().empty() ? sum_of(c.payload()) : std::stoi(std::string(c.arguments()[0]));
}

const cleanfork::entry entries[] = {
    {"nothing", [](call&) { return 0; }},
    {"exit", [](call& c) { return std::stoi(std::string(c.arguments().at(0))); }},
    {"execute", execute},
    {"sum", [](call& c) { return sum_of(c.payload()); }},
    {"wait_for", wait_for},
    {"pid_of_template",
     [](call& c) {
         c.respond(std::to_string(::getppid()));
         return 0;
     }},
    {"sleep", [](call&) -> int { wait_for_ever(); }},
    {"ignore",  // SIGTERM, and says so
     [](call& c) -> int {
         std::signal(SIGTERM, SIG_IGN);
         say(c, "ready", 'r');
         wait_for_ever();
     }},
    {"family",  // says it twice, from itself and from a child of its own
     [](call& c) -> int {
         if (::fork() < 0) ::_exit(98);
         say(c, "ready", 'r');
         wait_for_ever();
     }},
    {"segfault",
     [](call&) -> int {
         // A null pointer would be the sanitizer's to tell of.
         return *static_cast<volatile int*>(
             ::mmap(nullptr, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
     }},
    {"leave", [](call&) -> int { ::_exit(5); }},
    {"std_exit", [](call&) -> int { std::exit(6); }},
    {"close_everything",
     [](call&) {
         ::syscall(SYS_close_range, 0U, ~0U, 0U);
         return 4;
     }},
    {"stop",
     [](call&) {
         ::raise(SIGSTOP);
         return 3;
     }},
    {"kill_parent",
     [](call&) {
         ::kill(::getppid(), SIGKILL);
         return 2;
     }},
};

void wait_for_leave() {
    const char* path = std::getenv("TEMPLATE_HOLD");
    if (path == nullptr || ::access(path, F_OK) != 0) return;
    std::FILE* f = std::fopen(path, "r");
    if (f == nullptr) throw std::runtime_error("the file to wait for cannot be opened");
    char text[128] = {};
    const std::size_t n = std::fread(text, 1, sizeof text - 1, f);
    std::fclose(f);
    if (n != 0) throw std::runtime_error(text);
}

const cleanfork::initialization initialize(wait_for_leave);

}  // namespace

int main(int argc, char** argv) {
    cleanfork::template_main(argc, argv);
    std::fprintf(stderr, "template_hostile: a template for the tests of cleanfork\n");
    return 2;
}
