// A template whose entries do what an entry should not, and whose initialization waits:
// while TEMPLATE_HOLD names a file that exists, for what is written to it (a FIFO), which is
// what the initialization then throws; nothing: it goes on. While TEMPLATE_HOLD_FORK names a FIFO,
// a fork waits in its handlers until somebody has opened that for writing and closed it.
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
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

#include "forkserver/template/order.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/wire/packet.hpp"

using namespace cleanfork;

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

// Takes the control socket out of the template, and tells that each child of a sequence up to the
// argument has ended with 42. Gives the number of reports sent.
int forge_ends(call& c) {
    const unique_fd its = ipc::pidfd_open(::getppid());
    unique_fd control;
    for (int fd = 3; fd < 32 && !control; ++fd) {
        unique_fd taken(static_cast<int>(::syscall(SYS_pidfd_getfd, its.get(), fd, 0)));
        int type = 0;
        socklen_t size = sizeof type;
        if (taken && ::getsockopt(taken.get(), SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
            type == SOCK_SEQPACKET)
            control = std::move(taken);
    }
    if (!control) return 250;
    const int most = std::stoi(std::string(c.arguments().at(0)));
    for (int sequence = 1; sequence <= most; ++sequence) {
        const templates::child_end e{{.kind = templates::report_kind::ended,
                                      .sequence = static_cast<std::uint64_t>(sequence),
                                      .pid = ::getpid(),
                                      .wait_status = 42 << 8},
                                     {}};
        if (ipc::send_packet(control.get(), {reinterpret_cast<const char*>(&e), sizeof e}, {}) !=
            ipc::send_status::sent)
            return 251;
    }
    return most;
}

void wait_in_fork() {
    const char* path = std::getenv("TEMPLATE_HOLD_FORK");
    if (path == nullptr || ::access(path, F_OK) != 0) return;
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    char byte;
    while (::read(fd, &byte, 1) > 0) {
    }
    ::close(fd);
}
const int in_fork = ::pthread_atfork(&wait_in_fork, nullptr, nullptr);

const cleanfork::entry entries[] = {
    {"forge_ends", forge_ends},
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
