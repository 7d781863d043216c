// For tests/bench/test_counts.py: does one kind of thing some times, one after the other, under a
// forkserver of its own. What is to be known of it stands between its system calls, as writes to no
// descriptor: "daemon PID", "template PID", "turn", "child PID FAULTS".
//
//     counted exec | exec3 | run | cold | warm NUMBER
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cleanfork/client.hpp>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>

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

class subject {
public:
    explicit subject(std::string kind)
        : kind_(std::move(kind)), client_(cleanfork::launch(io_.get_executor())) {
        mark("daemon " + std::to_string(client_.server().pid));
        if (kind_ != "cold" && kind_ != "warm") return;
        const cleanfork::template_options options{
            .process = {.program = CLEANFORK_TEST_HELPER_DIR "/template_program"},
            .warm = kind_ == "warm" ? k_warm : 0};
        client_.add_template("t", options);
        mark("template " + std::to_string(client_.template_info("t").current()->pid));
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
    boost::asio::io_context io_;
    cleanfork::client client_;
};

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 3) throw std::runtime_error("usage: counted KIND NUMBER");
    const subject s(argv[1]);
    s.settle();
    for (int left = std::atoi(argv[2]); left > 0; --left) {
        mark("turn");
        s.once();
        s.settle();
    }
    mark("turn");
} catch (const std::exception& e) {
    std::cerr << "counted: " << e.what() << '\n';
    return 1;
}
