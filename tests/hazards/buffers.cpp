// Group 1: buffered output, which a fork copies and _exit(2) throws away.
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>

#include "tests/hazards/scene.hpp"

namespace hazards {

namespace {

// Standard output goes to a pipe or a file, in turns, while this lives.
class captured_output {
public:
    explicit captured_output(bool pipe) : pipe_(pipe), saved_(::dup(1)) {
        if (pipe)
            ends_ = make_pipe();
        else
            ends_.write = make_file();
        ::dup2(ends_.write.get(), 1);
    }
    captured_output(const captured_output&) = delete;
    captured_output& operator=(const captured_output&) = delete;
    ~captured_output() { ::close(saved_); }

    // What was written, once everybody has flushed.
    std::string finish() {
        ::dup2(saved_, 1);
        if (!pipe_) return content_of(ends_.write.get());
        ends_.write.reset();
        return read_all(ends_.read.get());
    }
    [[nodiscard]] std::string name() const { return pipe_ ? "the pipe" : "the file"; }

private:
    bool pipe_;
    int saved_;
    pipe_ends ends_;
};

bool is_stdio(const std::string& kind) { return kind == "stdio"; }

// To a pipe or a file both kinds are fully buffered; that standard output was a
// terminal when the program started, they might remember.
void print(const std::string& kind, const std::string& line) {
    if (is_stdio(kind)) {
        std::fputs(line.c_str(), stdout);
    } else {
        std::ios::sync_with_stdio(false);
        std::cout << line;
    }
}

void flush(const std::string& kind) {
    if (is_stdio(kind))
        std::fflush(stdout);
    else
        std::cout.flush();
}

const job print_line("print_line", [](const task& t) {
    print(t.word, "child\n");
    return 0;
});

verdict of(const captured_output& o, const std::string& content) {
    const std::string evidence =
        o.name() + " has \"" + content + "\", parent and child printed a line each";
    if (count(content, "parent\n") > 1 || count(content, "child\n") > 1)
        return damage{"twice", evidence};
    if (count(content, "parent\n") < 1 || count(content, "child\n") < 1)
        return damage{"lost", evidence};
    return {};
}

void print_both(const scene& s, const std::string& kind, leave how) {
    std::setvbuf(stdout, nullptr, _IOFBF, BUFSIZ);
    s.each([&](unsigned i) {
        captured_output output(i % 2 == 0);
        print(kind, "parent\n");
        s.start(print_line, {.word = kind}, how).wait();
        flush(kind);
        return of(output, output.finish());
    });
}

const registration stdio_twice({1, "stdio-twice", "stdio: the buffer copied, written at exit()", 40,
                                200,
                                [](const scene& s) { print_both(s, "stdio", leave::with_exit); }});
const registration stdio_lost({1, "stdio-lost", "stdio: the child's line, lost at _exit()", 40, 200,
                               [](const scene& s) { print_both(s, "stdio", leave::with__exit); }});
const registration iostreams_twice({1, "iostreams-twice", "iostreams: the same, at exit()", 40, 200,
                                    [](const scene& s) {
                                        print_both(s, "iostreams", leave::with_exit);
                                    }});
const registration iostreams_lost({1, "iostreams-lost", "iostreams: the same, at _exit()", 40, 200,
                                   [](const scene& s) {
                                       print_both(s, "iostreams", leave::with__exit);
                                   }});

// ---- a signal

volatile std::sig_atomic_t asked_to_end = 0;

// A worker that ends on SIGTERM as it should: its last line is in the buffer till then.
const job work_until_signal("work_until_signal", [](const task& t) {
    std::signal(SIGTERM, [](int) { asked_to_end = 1; });
    std::fputs("child\n", stdout);
    write_all(t.fd("ready"), "x");
    while (asked_to_end == 0) ::poll(nullptr, 0, 10);
    return 0;
});

// The parent waits for SIGTERM with sigwait(3) in a thread, as servers do: it has
// blocked it everywhere, and a fork copies that.
void end_by_signal(const scene& s) {
    std::setvbuf(stdout, nullptr, _IOFBF, BUFSIZ);
    sigset_t set, before;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &set, &before);
    s.each([&](unsigned i) -> verdict {
        captured_output output(i % 2 == 0);
        const pipe_ends ready = make_pipe();
        child c =
            s.start(work_until_signal, {.fds = {{"ready", ready.write.get()}}}, leave::with_exit);
        readable(ready.read.get(), bound(k_hang));
        c.signal(SIGTERM);
        const ending e = c.wait(500ms);
        const std::string content = output.finish();
        if (content == "child\n") return {};
        return damage{"lost", "after SIGTERM the child " +
                                  (e.hung ? "was killed in " + e.where : e.status.to_string()) +
                                  ", and " + output.name() + " has \"" + content + "\""};
    });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}
const registration signal_lost({1, "stdio-signal", "stdio: lost, since SIGTERM was blocked", 6, 20,
                                &end_by_signal});

}  // namespace

}  // namespace hazards
