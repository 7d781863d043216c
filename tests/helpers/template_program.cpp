// A template for the tests. Its initialization does what TEMPLATE_INIT says: throw, thread,
// socket, epoll, exit, hang, fork; TEMPLATE_TOUCH_MIB=N touches so much memory.
// TEMPLATE_ATFORK is what an atfork handler does: see below.
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cleanfork/template.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using cleanfork::call;

namespace {

std::mt19937_64 engine(1);
std::vector<char> memory;
std::string extension = "none";
int atfork_runs = 0;
pid_t pid_at_start = ::getpid();

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
}

[[noreturn]] void wait_for_ever() {
    for (;;) ::pause();
}

std::string open_descriptors() {
    std::string all;
    DIR* dir = ::opendir("/proc/self/fd");
    while (const dirent* e = ::readdir(dir)) {
        const int fd = std::atoi(e->d_name);
        if (e->d_name[0] == '.' || fd == ::dirfd(dir)) continue;
        char path[256] = {};
        const std::string link = "/proc/self/fd/" + std::string(e->d_name);
        [[maybe_unused]] const ssize_t n = ::readlink(link.c_str(), path, sizeof path - 1);
        all += std::string(e->d_name) + " " + path + "\n";
    }
    ::closedir(dir);
    return all;
}

// Locks that look at the thread's id: a stale one makes them wrong.
std::string mutexes() {
    for (const int kind : {PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK}) {
        pthread_mutexattr_t attributes;
        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_settype(&attributes, kind);
        pthread_mutex_t m;
        pthread_mutex_init(&m, &attributes);
        pthread_mutex_lock(&m);
        const int again = pthread_mutex_lock(&m);
        const int expected = kind == PTHREAD_MUTEX_RECURSIVE ? 0 : EDEADLK;
        if (again != expected) return "wrong";
        if (m.__data.__owner != static_cast<int>(::syscall(SYS_gettid))) return "wrong owner";
        if (again == 0) pthread_mutex_unlock(&m);
        if (pthread_mutex_unlock(&m) != 0) return "wrong unlock";
    }
    return "right";
}

std::string state() {
    std::string s = "pid " + std::to_string(::getpid()) + "\n";
    s += "fresh_pid " + std::to_string(::getpid() != pid_at_start) + "\n";
    s += "tid " + std::to_string(::syscall(SYS_gettid)) + "\n";
    s += "mutexes " + mutexes() + "\n";
    s += "atfork " + std::to_string(atfork_runs) + "\n";
    s += "rand " + std::to_string(std::rand()) + "\n";
    s += "random " + std::to_string(::random()) + "\n";
    s += "drand48 " + std::to_string(::drand48()) + "\n";
    s += "engine " + std::to_string(engine()) + "\n";
    s += "extension " + extension + "\n";
    return s;
}

// A line of a file of /proc, in KiB.
std::string kib_of(const char* path, const std::string& key) {
    std::ifstream file(path);
    for (std::string word; file >> word;)
        if (word == key + ":") {
            file >> word;
            return word;
        }
    return "-1";
}

// Reads all of the payload, then tells what memory there is of it.
std::string memory_after_sum(call& c) {
    unsigned long sum = 0;
    for (const char b : c.payload()) sum += static_cast<unsigned char>(b);
    return std::to_string(sum) + " " + kib_of("/proc/self/smaps_rollup", "Anonymous") + " " +
           kib_of("/proc/meminfo", "Shmem");
}

int cat(call& c) {
    const int fd = c.descriptor(c.arguments().at(0));
    char part[4096];
    for (ssize_t n; (n = ::read(fd, part, sizeof part)) > 0;)
        c.respond({part, static_cast<std::size_t>(n)});
    return 0;
}

int environment(call& c) {
    for (char** e = ::environ; *e != nullptr; ++e) c.respond(std::string(*e) + "\n");
    return 0;
}

int arguments(call& c) {
    for (const std::string_view a : c.arguments()) c.respond(std::string(a) + "\n");
    return 0;
}

// Makes the template unclean, from a child: through ptrace nothing less would do, so
// the template itself does it at its next fork, when this file is there.
void misbehave_before_fork() {
    const std::string path = variable("TEMPLATE_MISBEHAVE");
    if (!path.empty() && ::access(path.c_str(), F_OK) == 0) {
        std::FILE* f = std::fopen(path.c_str(), "r");
        char what[32] = {};
        [[maybe_unused]] const bool got = std::fgets(what, sizeof what, f) != nullptr;
        std::fclose(f);
        if (std::strncmp(what, "socket", 6) == 0) ::socket(AF_INET, SOCK_STREAM, 0);
        if (std::strncmp(what, "epoll", 5) == 0) ::epoll_create1(0);
        if (std::strncmp(what, "thread", 6) == 0) std::thread(wait_for_ever).detach();
        if (std::strncmp(what, "swap", 4) == 0) {  // as many descriptors as before
            ::close(0);
            ::socket(AF_INET, SOCK_STREAM, 0);
        }
        ::unlink(path.c_str());
    }
}

void before_fork() {
    if (variable("TEMPLATE_ATFORK") == "die_before") ::raise(SIGKILL);
}
void after_fork_in_template() {
    misbehave_before_fork();
    if (variable("TEMPLATE_ATFORK") == "die_after") ::raise(SIGKILL);
}
void after_fork_in_child() {
    ++atfork_runs;
    if (variable("TEMPLATE_ATFORK") == "child_dies") ::raise(SIGKILL);
    if (variable("TEMPLATE_ATFORK") == "child_stops") ::raise(SIGSTOP);
}

const cleanfork::entry entries[] = {
    {"nothing", [](call&) { return 0; }},
    {"exit", [](call& c) { return std::stoi(std::string(c.arguments().at(0))); }},
    {"exit_when_told",
     [](call& c) {
         char told;
         if (::write(1, "begun\n", 6) != 6 || ::read(0, &told, 1) != 1) return 255;
         return std::stoi(std::string(c.arguments().at(0)));
     }},
    {"echo",
     [](call& c) {
         c.respond(c.payload());
         return 0;
     }},
    {"args", arguments},
    {"env", environment},
    {"cat", cat},
    {"throw", [](call& c) -> int { throw std::runtime_error(std::string(c.arguments().at(0))); }},
    {"throw_int", [](call&) -> int { throw 1; }},
    {"crash", [](call&) -> int { std::abort(); }},
    {"sleep", [](call&) -> int { wait_for_ever(); }},
    {"fds",
     [](call& c) {
         c.respond(open_descriptors());
         return 0;
     }},
    {"state",
     [](call& c) {
         c.respond(state());
         return 0;
     }},
    {"status",  // proc_pid_status(5)
     [](call& c) {
         std::ifstream in("/proc/self/status");
         c.respond(std::string(std::istreambuf_iterator<char>(in), {}));
         return 0;
     }},
    {"cwd",
     [](call& c) {
         char path[4096];
         c.respond(::getcwd(path, sizeof path));
         return 0;
     }},
    {"write_stdout",
     [](call& c) {
         std::cout << "cout " << c.payload() << ' ';
         std::printf("printf\n");
         return 0;
     }},
    {"sum",
     [](call& c) {
         c.respond(memory_after_sum(c));
         return 0;
     }},
    {"first_instruction",  // when it was, by CLOCK_MONOTONIC
     [](call& c) {
         timespec now{};
         ::clock_gettime(CLOCK_MONOTONIC, &now);
         const std::int64_t ns = now.tv_sec * 1'000'000'000L + now.tv_nsec;
         return ::pwrite(c.descriptor("clock"), &ns, sizeof ns, 0) == sizeof ns ? 0 : 1;
     }},
    {"exec_inspect",  // the state that an executed program sees, from here
     [](call& c) -> int {
         const std::string path(c.arguments().at(0));
         ::execl(path.c_str(), path.c_str(), nullptr);
         return errno;
     }},
};

const cleanfork::initializer extend("extend", [](call& c) {
    if (c.payload() == "throw") throw std::runtime_error("the extension failed");
    extension = c.payload();
});

const cleanfork::initialization initialize([] {
    const std::string what = variable("TEMPLATE_INIT");
    if (what == "throw") throw std::runtime_error("the initialization failed as it was told");
    if (what == "thread") std::thread(wait_for_ever).detach();
    if (what == "socket") ::socket(AF_INET, SOCK_STREAM, 0);
    if (what == "epoll") ::epoll_create1(0);
    if (what == "exit") ::_exit(9);
    if (what == "hang") wait_for_ever();
    if (what == "fork" && ::fork() == 0) wait_for_ever();
    if (what == "noise") {
        std::cerr << "a word before the end\n";
        std::abort();
    }
    // In the buffer when a child is forked: it must be written once, by the template.
    std::printf("the template's own words\n");
    const std::string touch = variable("TEMPLATE_TOUCH_MIB");
    if (!touch.empty()) memory.assign(std::stoul(touch) << 20, 1);
    ::umask(0);
    ::signal(SIGUSR1, SIG_IGN);
    ::signal(SIGUSR2, [](int) {});
    ::pthread_atfork(before_fork, after_fork_in_template, after_fork_in_child);
});

}  // namespace

int main(int argc, char** argv) {
    cleanfork::reseed_in_children(engine);
    cleanfork::template_main(argc, argv);
    std::fprintf(stderr, "template_program: a template for the tests of cleanfork\n");
    return 2;
}
