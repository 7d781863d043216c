// Group 4: descriptors, which parent and child share with all there is behind them.
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "tests/hazards/record_link.hpp"

namespace hazards {

namespace {

// ---- the offset of a file

constexpr int k_records = 2000;

// The program's input, opened at its first use.
cleanfork::unique_fd input;

int read_records(const std::string& path) {
    if (!input) input.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    int record = 0, found = 0;
    while (read_exactly(input.get(), &record, sizeof record))
        if (record == found) ++found;
    return found;
}

const job count_records("count_records", [](const task& t) {
    write_all(t.fd("out"), std::to_string(read_records(t.word)));
    return 0;
});

void read_one_file(const scene& s) {
    const cleanfork::unique_fd file = make_file();
    for (int i = 0; i < k_records; ++i)
        write_all(file.get(), {reinterpret_cast<const char*>(&i), sizeof i});
    const std::string path =
        "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(file.get());
    s.each([&](unsigned) -> verdict {
        input.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        pipe_ends out = make_pipe();
        child c = s.start(count_records, {.word = path, .fds = {{"out", out.write.get()}}});
        const std::string mine = std::to_string(read_records(path));
        c.wait();
        out.write.reset();
        const std::string others = read_all(out.read.get()), all = std::to_string(k_records);
        if (mine == all && others == all) return {};
        return damage{"missed", "of " + all + " records in order the parent found " + mine +
                                    ", the child " + others};
    });
    input.reset();
}
const registration offset({4, "file-offset", "one file, read by both: each misses records", 20, 100,
                           &read_one_file});

// ---- a protocol

std::unique_ptr<record_link> link_to_server;

// Asks over the program's connection, made at the first use; what went wrong.
std::string ask_many(const std::string& port, const std::string& who) {
    if (!link_to_server) link_to_server = std::make_unique<record_link>(connect_to(port), false);
    for (std::size_t i = 0; i < 100; ++i)
        if (std::string wrong = link_to_server->ask(who + std::string(i * 11, 'x')); !wrong.empty())
            return wrong;
    return "";
}

const job ask_server("ask_server", [](const task& t) {
    write_all(t.fd("out"), ask_many(t.word, "child"));
    return 0;
});

void echo_records(cleanfork::unique_fd socket, bool sealed) {
    record_link link(std::move(socket), sealed);
    std::string text;
    while (link.receive(text).empty()) link.send(text);
}

void share_protocol(const scene& s) {
    loopback_server server(
        [](cleanfork::unique_fd socket) { echo_records(std::move(socket), false); });
    s.each([&](unsigned) -> verdict {
        link_to_server.reset();
        link_to_server = std::make_unique<record_link>(connect_to(server.port()), false);
        return both_ask(s, ask_server, server.port(), &ask_many, "desynchronized");
    });
    link_to_server.reset();
}
const registration protocol({4, "protocol", "a length-prefixed protocol, spoken by both", 15, 60,
                             &share_protocol});

const job do_nothing("do_nothing", [](const task&) { return 0; });

// The child does not touch the connection. Its exit() destroys its copy, which says goodbye.
void share_sealed(const scene& s) {
    loopback_server server(
        [](cleanfork::unique_fd socket) { echo_records(std::move(socket), true); });
    s.each([&](unsigned) -> verdict {
        link_to_server = std::make_unique<record_link>(connect_to(server.port()), true);
        link_to_server->ask("before");
        s.start(do_nothing, {}, leave::with_exit).wait();
        const std::string wrong = link_to_server->ask("after");
        if (wrong.empty()) return {};
        return damage{"ended", "the parent's next request: " + wrong};
    });
    link_to_server.reset();
}
const registration sealed({4, "tls-like", "a TLS-like stream, ended by the child", 20, 100,
                           &share_sealed});

// ---- ends that leak

const job read_to_end("read_to_end", [](const task& t) {
    // A child of fork has the end for writing as well, and closes it if it is well made.
    if (t.fds.contains("not needed")) ::close(t.fd("not needed"));
    char c = 0;
    while (read_exactly(t.fd("in"), &c, 1)) {
    }
    return 0;
});
const job hold_on("hold_on", [](const task& t) {
    char c = 0;
    if (t.fds.contains("not needed")) ::close(t.fd("not needed"));
    read_exactly(t.fd("until"), &c, 1);
    return 0;
});

std::map<std::string, int> reading_ends(const scene& s, const char* name, const pipe_ends& p) {
    std::map<std::string, int> fds{{name, p.read.get()}};
    if (s.forks()) fds.emplace("not needed", p.write.get());
    return fds;
}

// A consumer, then a worker that knows nothing of it. The parent closes the pipe to the consumer.
void leak_write_end(const scene& s) {
    s.each([&](unsigned) -> verdict {
        pipe_ends data = make_pipe(), until = make_pipe();
        child consumer = s.start(read_to_end, {.fds = reading_ends(s, "in", data)});
        child worker = s.start(hold_on, {.fds = reading_ends(s, "until", until)});
        data.read.reset();
        data.write.reset();
        const ending e = consumer.wait(500ms);
        until.write.reset();
        worker.wait();
        if (e.success()) return {};
        return damage{"no end", "the consumer " + e.text() + " though the parent had closed"};
    });
}
const registration leaked_end({4, "pipe-end", "a write end leaked: the reader sees no end", 6, 40,
                               &leak_write_end});

void leak_listener(const scene& s) {
    s.each([&](unsigned) -> verdict {
        cleanfork::unique_fd listener = listen_on(0);
        const std::uint16_t port = port_of(listener.get());
        pipe_ends until = make_pipe();
        child worker = s.start(hold_on, {.fds = reading_ends(s, "until", until)});
        listener.reset();
        const cleanfork::unique_fd again = listen_on(port);
        const int error = again ? 0 : errno;
        until.write.reset();
        worker.wait();
        if (again) return {};
        return damage{"taken", std::string("listening anew on the port: ") + std::strerror(error)};
    });
}
const registration leaked_listener({4, "listener", "a listening socket leaked: port is taken", 40,
                                    200, &leak_listener});

// ---- epoll

// An event loop in small: what it watches, it stops to watch when it is destroyed.
class event_loop {
public:
    event_loop() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}
    event_loop(const event_loop&) = delete;
    event_loop& operator=(const event_loop&) = delete;
    ~event_loop() {
        for (const int fd : watched_) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
    }
    void watch(int fd) {
        epoll_event e{.events = EPOLLIN, .data = {.fd = fd}};
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &e);
        watched_.push_back(fd);
    }
    // -1: nothing happened.
    [[nodiscard]] int wait(milliseconds bound) const {
        epoll_event e{};
        return ::epoll_wait(epoll_.get(), &e, 1, static_cast<int>(bound.count())) == 1 ? e.data.fd
                                                                                       : -1;
    }

private:
    cleanfork::unique_fd epoll_;
    std::vector<int> watched_;
};
std::unique_ptr<event_loop> loop;

void lose_watch(const scene& s) {
    s.each([&](unsigned) -> verdict {
        const pipe_ends p = make_pipe();
        loop = std::make_unique<event_loop>();
        loop->watch(p.read.get());
        s.start(do_nothing, {}, leave::with_exit).wait();
        write_all(p.write.get(), "x");
        const int event = loop->wait(100ms);
        loop.reset();
        if (event == p.read.get()) return {};
        return damage{"no event", "the parent's epoll is silent, its pipe has a byte"};
    });
}
const registration lost_watch({4, "epoll-lost", "an epoll set: the child ends a watch", 20, 100,
                               &lose_watch});

void keep_watch(const scene& s) {
    s.each([&](unsigned) -> verdict {
        pipe_ends p = make_socket_pair(), until = make_pipe();
        event_loop own;
        own.watch(p.read.get());
        child worker = s.start(hold_on, {.fds = reading_ends(s, "until", until)});
        const int closed = p.read.get();
        p.read.reset();
        write_all(p.write.get(), "x");
        const int event = own.wait(20ms);
        until.write.reset();
        worker.wait();
        if (event < 0) return {};
        return damage{"ghost", "an event for descriptor " + std::to_string(closed) +
                                   ", which the parent has closed"};
    });
}
const registration kept_watch({4, "epoll-ghost", "an epoll set: events of a closed descriptor", 20,
                               100, &keep_watch});

}  // namespace

}  // namespace hazards
