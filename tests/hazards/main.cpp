// One case of the hazards of fork, in one way:
//
//     cleanfork_hazards CASE [--with fork|posix_spawn|cleanfork] [--tries N]
//     cleanfork_hazards --list
//
// Prints a line for each try: "ok", or "damaged KIND: what was seen"; and "done".
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cleanfork/template.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <stdexcept>

#include "tests/hazards/scene.hpp"
#include "tests/helpers/patience.hpp"

namespace {

using namespace hazards;

// Longer than the waits in such a process.
constexpr milliseconds k_alone_bound = 2500ms;
const milliseconds k_alone_otherwise = cleanfork::test::scaled(30s);

struct arguments {
    std::string name;
    std::string with = "fork";
    unsigned tries = 0;
    bool one = false;  // the process of a try that is made alone
};

arguments parse(int argc, char** argv) {
    arguments a;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word == "--one")
            a.one = true;
        else if (word == "--with" && i + 1 < argc)
            a.with = argv[++i];
        else if (word == "--tries" && i + 1 < argc)
            a.tries = static_cast<unsigned>(std::stoul(argv[++i]));
        else if (a.name.empty())
            a.name = word;
        else
            throw std::runtime_error("unexpected: " + word);
    }
    return a;
}

way way_of(const std::string& name) {
    if (name == "fork") return way::fork;
    if (name == "posix_spawn") return way::posix_spawn;
    if (name == "cleanfork") return way::cleanfork;
    throw std::runtime_error("no such way: " + name);
}

const hazard& hazard_of(const std::string& name) {
    for (const hazard& h : registration::all())
        if (h.name == name) return h;
    throw std::runtime_error("no such case: " + name + "; --list tells them");
}

void list() {
    for (const hazard& h : registration::all())
        std::printf("%d\t%s\tC++\t%s\t%u\t%u\n", h.group, h.name.c_str(), h.title.c_str(), h.quick,
                    h.full);
}

// ---- tries in processes of their own

struct attempt {
    child process;
    cleanfork::unique_fd output;
};

attempt start_alone(const arguments& a) {
    pipe_ends output = make_pipe();
    const char* words[] = {"cleanfork_hazards", a.name.c_str(), "--one", "--with",
                           a.with.c_str(),      nullptr};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, output.write.get(), 1);
    pid_t pid = 0;
    const int failed = ::posix_spawn(&pid, "/proc/self/exe", &actions, nullptr,
                                     const_cast<char**>(words), ::environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) throw std::runtime_error(std::strerror(failed));
    return {child(pid), std::move(output.read)};
}

// What the process told, or that it could not.
void conclude(attempt& a, std::chrono::steady_clock::time_point deadline, int results) {
    const ending e = a.process.wait_until(deadline);
    const std::string told = read_all(a.output.get(), 100ms);
    const std::string line = told.substr(0, told.find('\n') + 1);
    if (e.success() && !line.empty())
        write_all(results, line);
    else
        write_all(results, "damaged parent " + std::string(e.hung ? "hung" : "crashed") +
                               ": the parent: " + e.text() + "\n");
}

void run_alone(const arguments& a, unsigned at_once, int results) {
    for (unsigned done = 0; done < a.tries;) {
        std::vector<attempt> batch;
        for (; done < a.tries && batch.size() < at_once; ++done) batch.push_back(start_alone(a));
        const auto deadline = std::chrono::steady_clock::now() +
                              (a.with == "fork" ? k_alone_bound : k_alone_otherwise);
        for (attempt& each : batch) conclude(each, deadline, results);
    }
}

int run(int argc, char** argv) {
    if (argc == 2 && std::string_view(argv[1]) == "--list") {
        list();
        return 0;
    }
    arguments a = parse(argc, argv);
    const hazard& h = hazard_of(a.name);
    if (a.tries == 0) a.tries = h.quick;
    // Standard output is what some of the cases are about.
    const int results = ::fcntl(1, F_DUPFD_CLOEXEC, 100);
    ::dup2(2, 1);
    ::signal(SIGPIPE, SIG_IGN);
    if (h.alone != 0 && !a.one) {
        run_alone(a, h.alone, results);
    } else {
        h.run(scene(way_of(a.with), h.alone != 0 ? 1 : a.tries, results));
    }
    write_all(results, "done\n");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    cleanfork::template_main(argc, argv);
    try {
        return run(argc, argv);
    } catch (const std::exception& e) {
        std::cerr << "cleanfork_hazards: " << e.what() << '\n';
        return 2;
    }
}
