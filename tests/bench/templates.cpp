#include "tests/bench/templates.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <stdexcept>

#include "tests/bench/measure.hpp"

namespace bench {

namespace {

using nlohmann::json;

std::int64_t now_ns() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1'000'000'000L + t.tv_nsec;
}

// Memory of this process, so that its fork has as much to copy as the template's.
class touched {
public:
    explicit touched(std::size_t size) : size_(size) {
        at_ = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at_ == MAP_FAILED) throw std::runtime_error("no memory to touch");
        ::madvise(at_, size, MADV_NOHUGEPAGE);
        std::memset(at_, 1, size);
    }
    touched(const touched&) = delete;
    touched& operator=(const touched&) = delete;
    ~touched() { ::munmap(at_, size_); }

private:
    std::size_t size_;
    void* at_;
};

// Shared with children: when the first instruction of one ran.
std::int64_t* shared_clock(int fd) {
    void* at = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) throw std::runtime_error("no shared page");
    return static_cast<std::int64_t*>(at);
}

void fork_and_wait() {
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(0);
    int status = -1;
    if (pid < 0 || ::waitpid(pid, &status, 0) != pid || status != 0)
        throw std::runtime_error("fork");
}

nanoseconds fork_to_first(std::int64_t* clock) {
    const std::int64_t before = now_ns();
    const pid_t pid = ::fork();
    if (pid == 0) {
        *clock = now_ns();
        ::_exit(0);
    }
    int status = -1;
    if (pid < 0 || ::waitpid(pid, &status, 0) != pid || status != 0)
        throw std::runtime_error("fork");
    return nanoseconds(*clock - before);
}

double fork_rate(int total, int in_flight) {
    const std::int64_t before = now_ns();
    int alive = 0;
    for (int started = 0; started < total || alive > 0;) {
        for (; started < total && alive < in_flight; ++started, ++alive) {
            const pid_t pid = ::fork();
            if (pid == 0) ::_exit(0);
            if (pid < 0) throw std::runtime_error("fork");
        }
        for (int options = 0; alive > 0; options = WNOHANG, --alive)
            if (::waitpid(-1, nullptr, options) <= 0) break;
    }
    return total / (static_cast<double>(now_ns() - before) / 1e9);
}

enum class ready { nothing, pool, lease };

struct subject {
    const cleanfork::client& client;
    std::string name;
    int clock_fd;
    std::int64_t* clock;
    ready needs = ready::nothing;

    // Without a lease where none is looked at.
    [[nodiscard]] cleanfork::call_options options() const {
        return {.leased = needs == ready::lease};
    }
    void call() const {
        const auto r = client.run_call(name, "nothing", {}, options());
        if (!r.status.success()) throw std::runtime_error("call: " + r.status.to_string());
    }
    [[nodiscard]] nanoseconds to_first() const {
        prepare();
        const std::int64_t before = now_ns();
        cleanfork::call_options o = options();
        o.fds = {{"clock", clock_fd}};
        const auto r = client.run_call(name, "first_instruction", {}, o);
        if (!r.status.success()) throw std::runtime_error("call: " + r.status.to_string());
        return nanoseconds(*clock - before);
    }
    // As between calls of a service: the pool has been filled, and the session has its lease, which
    // it asks for once it calls again.
    void prepare() const {
        if (needs == ready::nothing) return;
        for (;;) {
            const auto info = client.template_info(name);
            const cleanfork::generation_info& g = *info.current();
            if (g.warm_pids.size() == 4 && (needs == ready::pool || g.leased != 0)) return;
        }
    }
    [[nodiscard]] nanoseconds to_exit() const {
        prepare();
        return timed([this] { call(); });
    }
    // Until the entry has returned; its process is waited for when nobody looks at the clock.
    [[nodiscard]] nanoseconds to_answer() const {
        prepare();
        const std::int64_t before = now_ns();
        cleanfork::call_options o = options();
        o.answer = true;
        const auto p = client.call(name, "nothing", {}, o);
        if (!p.wait_answer()) throw std::runtime_error("no answer");
        const nanoseconds took(now_ns() - before);
        if (!p.wait().success()) throw std::runtime_error("call");
        return took;
    }
    double rate(boost::asio::io_context& io, int total, int in_flight) const {
        int started = 0;
        std::function<void()> next = [&] {
            if (started == total) return;
            ++started;
            client.async_run_call(name, "nothing", {}, {},
                                  [&](std::exception_ptr e, const cleanfork::call_result& r) {
                                      if (e) std::rethrow_exception(e);
                                      if (!r.status.success()) throw std::runtime_error("call");
                                      next();
                                  });
        };
        const std::int64_t before = now_ns();
        for (int i = 0; i < in_flight; ++i) next();
        io.restart();
        io.run();
        return total / (static_cast<double>(now_ns() - before) / 1e9);
    }
};

json rows(const std::vector<figure>& figures) {
    json out = json::array();
    for (const figure& f : figures) {
        const double ratio = f.median_us / figures.front().median_us;
        out.push_back({{"contender", f.name},
                       {"median_us", f.median_us},
                       {"p10_us", f.p10_us},
                       {"p90_us", f.p90_us},
                       {"runs", f.runs},
                       {"ratio", ratio}});
        std::printf("  %-34s %10.1f us   p10 %9.1f   p90 %9.1f   %7.3f x %s\n", f.name.c_str(),
                    f.median_us, f.p10_us, f.p90_us, ratio, figures.front().name.c_str());
    }
    std::fflush(stdout);
    return out;
}

json in_flight(const subject& s, boost::asio::io_context& io, int total) {
    std::vector<double> raw, ours, ratios;
    for (int round = 0; round < 5; ++round) {
        raw.push_back(fork_rate(total, 16));
        ours.push_back(s.rate(io, total, 16));
        ratios.push_back(ours.back() / raw.back());
    }
    for (auto* v : {&raw, &ours, &ratios}) std::sort(v->begin(), v->end());
    std::printf("  16 in flight: fork %.0f/s, calls %.0f/s: %.2f x (median of 5 pairs)\n", raw[2],
                ours[2], ratios[2]);
    return {{"fork_per_s", raw[2]}, {"calls_per_s", ours[2]}, {"ratio", ratios[2]}};
}

json of_size(const cleanfork::client& client, boost::asio::io_context& io, std::size_t mib,
             std::size_t rounds) {
    std::printf("(f) calls of a template with %zu MiB touched\n", mib);
    const touched same(mib << 20);
    const cleanfork::unique_fd clock(::memfd_create("clock", MFD_CLOEXEC));
    if (!clock || ::ftruncate(clock.get(), 4096) != 0) throw std::runtime_error("memfd");
    std::int64_t* page = shared_clock(clock.get());
    cleanfork::template_options o{
        .process = {.program = CLEANFORK_TEST_HELPER_DIR "/template_program",
                    .env = {.set = {{"TEMPLATE_TOUCH_MIB", std::to_string(mib)}}}}};
    client.add_template("cold", o);
    o.huge_pages = true;
    client.add_template("huge", o);
    o.huge_pages = false;
    cleanfork::template_options keeping = o;
    keeping.process.program = CLEANFORK_TEST_HELPER_DIR "/template_kept";
    client.add_template("kept", keeping);
    o.warm = 4;
    client.add_template("warm", o);
    const subject cold{client, "cold", clock.get(), page};
    const subject huge{client, "huge", clock.get(), page};
    const subject kept{client, "kept", clock.get(), page};
    const subject warm{client, "warm", clock.get(), page, ready::pool};
    const subject leased{client, "warm", clock.get(), page, ready::lease};
    for (int i = 0; i < 2; ++i) leased.call();
    json out;
    out["to_exit"] =
        rows(alternate({{"fork + _exit + waitpid", [] { return timed(fork_and_wait); }},
                        {"call, to its exit event", [&] { return cold.to_exit(); }},
                        {"the same, huge pages", [&] { return huge.to_exit(); }},
                        {"the same, kept from children", [&] { return kept.to_exit(); }},
                        {"the same, warm", [&] { return warm.to_exit(); }},
                        {"the same, leased", [&] { return leased.to_exit(); }},
                        {"call, to its answer", [&] { return cold.to_answer(); }},
                        {"leased, to its answer", [&] { return leased.to_answer(); }}},
                       rounds));
    out["to_first_instruction"] =
        rows(alternate({{"fork, to the child", [&] { return fork_to_first(page); }},
                        {"call, to its entry", [&] { return cold.to_first(); }},
                        {"the same, warm", [&] { return warm.to_first(); }},
                        {"the same, leased", [&] { return leased.to_first(); }}},
                       rounds));
    out["in_flight_16"] = in_flight(cold, io, static_cast<int>(rounds));
    for (const char* name : {"cold", "huge", "kept", "warm"}) client.remove_template(name);
    ::munmap(page, 4096);
    return out;
}

}  // namespace

json templates(const cleanfork::client& client, boost::asio::io_context& io, std::size_t rounds) {
    json out;
    out["1_mib"] = of_size(client, io, 1, rounds);
    out["256_mib"] = of_size(client, io, 256, rounds / 5);
    out["4_gib"] = of_size(client, io, 4096, std::max<std::size_t>(rounds / 50, 5));
    return out;
}

}  // namespace bench
