// For tests/bench/test_counts.py: does one kind of thing some times, one after the other, under a
// forkserver of its own. What is to be known of it stands between its system calls, as writes to no
// descriptor: "daemon PID", "template PID", "turn", "child PID FAULTS".
//
//     counted exec | exec3 | run | cold | warm NUMBER [--wake-ups]
//
// With --wake-ups, and not under strace(1): how often client, forkserver and template slept since
// the line before, a line each time.
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cleanfork/client.hpp>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

void mark(const std::string& text) { (void)::write(-1, text.data(), text.size()); }

void mark_child(pid_t pid, const cleanfork::exit_status& status,
                const cleanfork::resource_usage& usage) {
    if (!status.success()) throw std::runtime_error("it " + status.to_string());
    mark("child " + std::to_string(pid) + " " + std::to_string(usage.minor_faults));
}

void wait(const cleanfork::process& p) {
    const cleanfork::exit_status status = p.wait();
    mark_child(p.id(), status, p.usage());
}

// How often it has slept.
long sleeps_of(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("voluntary_ctxt_switches:")) return std::stol(line.substr(24));
    return 0;
}

class subject {
public:
    explicit subject(std::string kind)
        : kind_(std::move(kind)), client_(cleanfork::launch(io_.get_executor())) {
        all_.push_back(::getpid());
        all_.push_back(client_.server().pid);
        mark("daemon " + std::to_string(all_.back()));
        if (kind_ != "cold" && kind_ != "warm") return;
        const cleanfork::template_options options{
            .process = {.program = CLEANFORK_TEST_HELPER_DIR "/template_program"},
            .warm = kind_ == "warm" ? k_warm : 0,
            .leases = 0};
        client_.add_template("t", options);
        all_.push_back(client_.template_info("t").current()->pid);
        mark("template " + std::to_string(all_.back()));
    }

    void once() const {
        const std::string program = CLEANFORK_TEST_HELPER_DIR "/nothing";
        if (kind_ == "exec") {
            wait(client_.spawn({.program = program, .identity = k_as_forkserver}));
        } else if (kind_ == "exec3") {
            const cleanfork::stdio::inherit mine;
            wait(client_.spawn({.program = program,
                                .in = mine,
                                .out = mine,
                                .err = mine,
                                .identity = k_as_forkserver}));
        } else if (kind_ == "run") {
            const auto r = client_.run({.program = program, .identity = k_as_forkserver});
            mark_child(r.pid, r.status, r.usage);
        } else {
            const auto r =
                client_.run_call("t", "nothing", {}, {.attributes = {.identity = k_as_forkserver}});
            mark_child(r.pid, r.status, r.usage);
        }
    }

    // Of client, forkserver and template, so far.
    [[nodiscard]] std::vector<long> sleeps() const {
        std::vector<long> all;
        for (const pid_t pid : all_) all.push_back(sleeps_of(pid));
        return all;
    }

    // Its pool is filled again: that is asked for, and told.
    void settle() const {
        while (kind_ == "warm" && client_.template_info("t").current()->warm_pids.size() < k_warm) {
            mark("asked");
        }
        if (kind_ == "warm") mark("asked");
    }

private:
    static constexpr unsigned k_warm = 2;
    // What the comparison with the forkserver costs depends on who asks: docs/design.md has that.
    static constexpr auto k_as_forkserver = cleanfork::identity::of_forkserver;

    std::string kind_;
    std::vector<pid_t> all_;
    boost::asio::io_context io_;
    cleanfork::client client_;
};

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 3) throw std::runtime_error("usage: counted KIND NUMBER [--wake-ups]");
    const subject s(argv[1]);
    s.settle();
    std::vector<long> before = s.sleeps();
    for (int left = std::atoi(argv[2]); left > 0; --left) {
        mark("turn");
        s.once();
        s.settle();
        const std::vector<long> after = argc == 4 ? s.sleeps() : std::vector<long>();
        for (std::size_t i = 0; i < after.size(); ++i)
            std::cout << after[i] - std::exchange(before[i], after[i])
                      << (i + 1 == after.size() ? '\n' : ' ');
    }
    mark("turn");
} catch (const std::exception& e) {
    std::cerr << "counted: " << e.what() << '\n';
    return 1;
}
