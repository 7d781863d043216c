// Group 2: state that is copied, and from then on there twice.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>
#include <random>
#include <set>

#include "tests/hazards/scene.hpp"
#include "tests/hazards/span_queue.hpp"

namespace hazards {

namespace {

// ---- a cache that writes back

// Two counters of a file, kept here and written back when asked to.
struct write_back_cache {
    explicit write_back_cache(int f) : file(f) {
        (void)!::pread(file, values.data(), sizeof values, 0);
    }
    void flush() const { (void)!::pwrite(file, values.data(), sizeof values, 0); }
    int file;
    std::array<int, 2> values{};
};
std::unique_ptr<write_back_cache> cache;

const job count_visit("count_visit", [](const task& t) {
    char go = 0;
    if (!read_exactly(t.fd("go"), &go, 1)) return 1;
    if (!cache) cache = std::make_unique<write_back_cache>(t.fd("file"));
    ++cache->values[1];
    cache->flush();
    return 0;
});

// The child counts visits, the parent goes on counting orders meanwhile.
void cache_written_back(const scene& s) {
    s.each([&](unsigned) -> verdict {
        const cleanfork::unique_fd file(::memfd_create("counters", MFD_CLOEXEC));
        const pipe_ends go = make_pipe();
        cache = std::make_unique<write_back_cache>(file.get());
        cache->values[0] = 1;
        cache->flush();
        child c = s.start(count_visit, {.fds = {{"file", file.get()}, {"go", go.read.get()}}});
        cache->values[0] = 2;
        cache->flush();
        write_all(go.write.get(), "x");
        c.wait();
        const write_back_cache now(file.get());
        if (now.values[0] == 2 && now.values[1] == 1) return {};
        return damage{"overwritten", "orders went from 1 to 2, visits from 0 to 1; the file has " +
                                         std::to_string(now.values[0]) + " and " +
                                         std::to_string(now.values[1])};
    });
}
const registration cached({2, "cache", "a write-back cache, written back by both", 40, 200,
                           &cache_written_back});

// ---- identifiers and random numbers

// Unique as long as no two processes share the prefix, which is drawn at the first use.
class id_generator {
public:
    std::string next() { return std::to_string(prefix_) + "-" + std::to_string(++last_); }

private:
    std::uint64_t prefix_ = (std::uint64_t{std::random_device{}()} << 32) + std::random_device{}();
    std::uint64_t last_ = 0;
};
id_generator& ids() {
    static id_generator generator;
    return generator;
}

std::mt19937_64& engine() {
    static std::mt19937_64 e(std::random_device{}());
    return e;
}

std::string draw(const std::string& kind) {
    return kind == "id" ? ids().next() : std::to_string(engine()());
}

const job draw_ten("draw_ten", [](const task& t) {
    for (int i = 0; i < 10; ++i) write_all(t.fd("out"), draw(t.word) + "\n");
    return 0;
});

// Ten of a child, ten of the parent: all of them are to be different.
void draw_both(const scene& s, const std::string& kind) {
    draw(kind);
    s.each([&](unsigned) -> verdict {
        pipe_ends out = make_pipe();
        child c = s.start(draw_ten, {.word = kind, .fds = {{"out", out.write.get()}}});
        std::string mine;
        for (int i = 0; i < 10; ++i) mine += draw(kind) + "\n";
        c.wait();
        out.write.reset();
        const std::string others = read_all(out.read.get());
        std::set<std::string> different;
        const std::string both = mine + others;
        for (std::size_t at = 0, end; (end = both.find('\n', at)) != std::string::npos;
             at = end + 1)
            different.insert(both.substr(at, end - at));
        if (different.size() == 20) return {};
        return damage{"the same", std::to_string(different.size()) +
                                      " of 20 differ: the parent's " +
                                      mine.substr(0, mine.find('\n')) + ", the child's " +
                                      others.substr(0, others.find('\n'))};
    });
}
const registration id({2, "ids", "a generator of ids: handed out twice", 40, 200,
                       [](const scene& s) { draw_both(s, "id"); }});
const registration random_numbers({2, "random", "std::mt19937: the same numbers in both", 40, 200,
                                   [](const scene& s) { draw_both(s, "random"); }});

// ---- spans

std::unique_ptr<span_queue> spans;

span_queue& spans_of(const task& t) {
    if (!spans) spans = std::make_unique<span_queue>(t.fd("collector"), 5ms);
    return *spans;
}

constexpr int k_not_exported = 3;

const job flush_span("flush_span", [](const task& t) {
    spans_of(t).end_span("child-1");
    spans_of(t).force_flush();
    return 0;
});
const job end_span("end_span", [](const task& t) {
    spans_of(t).end_span("child-1");
    return spans_of(t).wait_until_exported(bound(500ms)) ? 0 : k_not_exported;
});

verdict exported_once(const ending& e, const std::string& collected) {
    for (const char* span : {"parent-1\n", "child-1\n"}) {
        const std::size_t times = count(collected, span);
        if (times == 1) continue;
        return damage{e.hung       ? "deadlock"
                      : times == 0 ? "never"
                                   : "twice",
                      "the child " + e.text() + "; the collector has \"" + collected + "\""};
    }
    return {};
}

// A span of the parent waits in the queue when the child is started.
void export_both(const scene& s, const job& j) {
    s.each([&](unsigned) {
        const cleanfork::unique_fd collector = make_file();
        spans = std::make_unique<span_queue>(collector.get(), 200ms);
        spans->end_span("parent-1");
        const ending e = s.start(j, {.fds = {{"collector", collector.get()}}}).wait();
        spans.reset();
        return exported_once(e, content_of(collector.get()));
    });
}
const registration spans_twice({2, "spans-twice", "span queue, child flushes: exported twice", 20,
                                50, [](const scene& s) { export_both(s, flush_span); }});
const registration spans_never({2, "spans-never", "span queue, thread is gone: never exported", 6,
                                20, [](const scene& s) { export_both(s, end_span); }});

// Busy: the lock is often held, by threads that are not in the child.
void export_while_busy(const scene& s) {
    const cleanfork::unique_fd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    spans = std::make_unique<span_queue>(nowhere.get(), 1ms);
    {
        const busy threads(4, [](unsigned) { spans->end_span("parent"); });
        s.all(flush_span, {.fds = {{"collector", nowhere.get()}}});
    }
    spans.reset();
}
const registration spans_deadlock({2, "spans-deadlock", "span queue, busy: its lock stays locked",
                                   100, 200, &export_while_busy});

void hook() {
    if (spans) spans->after_fork_in_child();
}

// With its hook it gets through a fork; this is what every library would have to do.
void export_with_hook(const scene& s) {
    ::pthread_atfork(nullptr, nullptr, &hook);
    export_both(s, end_span);
}
const registration spans_hook({2, "spans-hook", "span queue with an at-fork hook", 8, 50,
                               &export_with_hook});

}  // namespace

}  // namespace hazards
