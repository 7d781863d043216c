// A child that tells what it is sent: a line for each signal, on standard output.
//
//     lifetimes_child end|ignore [group|session [stay|leave]]
//
// end: ends with status 3 at the first signal; ignore: goes on. group, session: forks one more
// of the kind, in the same process group or in a session of its own; then stays, or leaves.
// Each says "ready" when its handlers are in place; standard output ends with the last of them.
#include <signal.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

namespace {

bool ends = false;

void say(const char* text) {
    [[maybe_unused]] const ssize_t n = ::write(STDOUT_FILENO, text, std::strlen(text));
}

void tell(int number) {
    say(number == SIGTERM   ? "TERM\n"
        : number == SIGHUP  ? "HUP\n"
        : number == SIGUSR1 ? "USR1\n"
                            : "RTMIN\n");
    if (ends) ::_exit(3);
}

[[noreturn]] void wait_for_ever() {
    for (;;) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
    const auto is = [&](int at, std::string_view word) { return argc > at && argv[at] == word; };
    ends = is(1, "end");
    struct sigaction action {};
    action.sa_handler = tell;
    for (const int number : {SIGTERM, SIGHUP, SIGUSR1, SIGRTMIN})
        ::sigaction(number, &action, nullptr);
    if (argc > 2) {
        const pid_t pid = ::fork();
        if (pid < 0) return 1;
        if (pid == 0) {
            if (is(2, "session")) ::setsid();
            say("ready\n");
            wait_for_ever();
        }
        if (is(3, "leave")) return 0;
    }
    say("ready\n");
    wait_for_ever();
}
