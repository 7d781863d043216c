#include "tests/bench/templates.hpp"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
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

constexpr unsigned k_warm = 4;

struct subject {
    const cleanfork::client& client;
    std::string name;
    int clock_fd;
    std::int64_t* clock;

    void call() const {
        const auto r = client.run_call(name, "nothing");
        if (!r.status.success()) throw std::runtime_error("call: " + r.status.to_string());
    }
    [[nodiscard]] nanoseconds to_first() const {
        const std::int64_t before = now_ns();
        const auto r =
            client.run_call(name, "first_instruction", {}, {.fds = {{"clock", clock_fd}}});
        if (!r.status.success()) throw std::runtime_error("call: " + r.status.to_string());
        return nanoseconds(*clock - before);
    }
    // As between calls of a service: the pool has been filled.
    void await_pool() const {
        while (client.template_info(name).current()->warm_pids.size() < k_warm) {
        }
    }
    // The same, of the leases that this session has. It asks for them once it calls again.
    void await_lease() const {
        while (client.template_info(name).current()->leased == 0) {
        }
        await_pool();
    }
    // Until the entry has returned; its process is waited for when nobody looks at the clock.
    [[nodiscard]] nanoseconds to_answer() const {
        const std::int64_t before = now_ns();
        const auto p = client.call(name, "nothing", {}, {.answer = true});
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

json in_flight(const subject& s, boost::asio::io_context& io, int total, goals* judged) {
    std::vector<double> raw, ours, ratios;
    for (int round = 0; round < 5; ++round) {
        raw.push_back(fork_rate(total, 16));
        ours.push_back(s.rate(io, total, 16));
        ratios.push_back(ours.back() / raw.back());
    }
    for (auto* v : {&raw, &ours, &ratios}) std::sort(v->begin(), v->end());
    if (judged != nullptr) judged->measured("call_rate", ratios[2]);
    std::printf("  16 in flight: fork %.0f/s, calls %.0f/s: %.2f x (median of 5 pairs)\n", raw[2],
                ours[2], ratios[2]);
    return {{"fork_per_s", raw[2]}, {"calls_per_s", ours[2]}, {"ratio", ratios[2]}};
}

// ---- processor time

std::uint64_t run_ns_of(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/schedstat");
    std::uint64_t ns = 0;
    if (!(file >> ns)) throw std::runtime_error("the kernel does not tell schedstat");
    return ns;
}

double us_of(const cleanfork::resource_usage& u) {
    return static_cast<double>((u.user + u.system).count());
}

double us_of_children() {
    rusage u{};
    ::getrusage(RUSAGE_CHILDREN, &u);
    const auto us = [](const timeval& t) {
        return static_cast<double>(t.tv_sec * 1'000'000L + t.tv_usec);
    };
    return us(u.ru_utime) + us(u.ru_stime);
}

// Of one fork, with its child, in us.
double cpu_of_fork(std::size_t rounds) {
    const double children = us_of_children();
    const std::uint64_t own = run_ns_of(::getpid());
    for (std::size_t i = 0; i < rounds; ++i) fork_and_wait();
    return (us_of_children() - children + static_cast<double>(run_ns_of(::getpid()) - own) / 1e3) /
           static_cast<double>(rounds);
}

// Of one call: this process, the forkserver, the template and the child together.
double cpu_of_call(const subject& s, std::size_t rounds) {
    const pid_t all[] = {::getpid(), s.client.server().pid,
                         s.client.template_info(s.name).current()->pid};
    const auto of_all = [&] {
        std::uint64_t ns = 0;
        for (const pid_t pid : all) ns += run_ns_of(pid);
        return static_cast<double>(ns) / 1e3;
    };
    const double before = of_all();
    double children = 0;
    for (std::size_t i = 0; i < rounds; ++i)
        children += us_of(s.client.run_call(s.name, "nothing").usage);
    return (of_all() - before + children) / static_cast<double>(rounds);
}

json processor_time(const subject& s, std::size_t rounds, goals& judged) {
    std::vector<double> raw, ours, ratios;
    for (int round = 0; round < 5; ++round) {
        raw.push_back(cpu_of_fork(rounds));
        ours.push_back(cpu_of_call(s, rounds));
        ratios.push_back(ours.back() / raw.back());
    }
    for (auto* v : {&raw, &ours, &ratios}) std::sort(v->begin(), v->end());
    judged.measured("call_cpu", ratios[2]);
    std::printf("  processor time of all: fork %.1f us, call %.1f us: %.2f x (median of 5 pairs)\n",
                raw[2], ours[2], ratios[2]);
    return {{"fork_us", raw[2]}, {"call_us", ours[2]}, {"ratio", ratios[2]}};
}

// ---- one size

class templates_of_size {
public:
    templates_of_size(const cleanfork::client& client, std::size_t mib)
        : client_(client), same_(mib << 20), clock_(::memfd_create("clock", MFD_CLOEXEC)) {
        if (!clock_ || ::ftruncate(clock_.get(), 4096) != 0) throw std::runtime_error("memfd");
        page_ = shared_clock(clock_.get());
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
        o.warm = k_warm;
        client.add_template("leased", o);
        o.leases = 0;
        client.add_template("warm", o);
        // From the second on a session has leases.
        for (int i = 0; i < 2; ++i) of("leased").call();
    }
    templates_of_size(const templates_of_size&) = delete;
    templates_of_size& operator=(const templates_of_size&) = delete;
    ~templates_of_size() {
        for (const char* name : {"cold", "huge", "kept", "warm", "leased"})
            client_.remove_template(name);
        ::munmap(page_, 4096);
    }

    [[nodiscard]] subject of(const char* name) const {
        return {client_, name, clock_.get(), page_};
    }
    [[nodiscard]] std::int64_t* page() const noexcept { return page_; }

private:
    const cleanfork::client& client_;
    touched same_;
    cleanfork::unique_fd clock_;
    std::int64_t* page_ = nullptr;
};

struct size {
    std::size_t mib, rounds;
    std::string name;  // as goals.json has it
};

// Goals of warm calls are those of leased ones: what a session meets from its third call on.
json to_exit(const templates_of_size& t, const size& of, goals& judged) {
    const char* const raw = "fork + _exit + waitpid";
    const char* const cold = "call, to its exit event";
    const char* const leased = "the same, leased";
    const char* const leased_answer = "leased, to its answer";
    const char* const cold_answer = "call, to its answer";
    const auto called = [&](const char* name) {
        return [s = t.of(name)] { return timed([&] { s.call(); }); };
    };
    const subject warm = t.of("warm"), ahead = t.of("leased"), plain = t.of("cold");
    const auto figures = alternate({{raw, [] { return timed(fork_and_wait); }},
                                    {cold, called("cold")},
                                    {"the same, huge pages", called("huge")},
                                    {"the same, kept from children", called("kept")},
                                    {"the same, warm",
                                     [&] {
                                         warm.await_pool();
                                         return timed([&] { warm.call(); });
                                     }},
                                    {leased,
                                     [&] {
                                         ahead.await_lease();
                                         return timed([&] { ahead.call(); });
                                     }},
                                    {leased_answer,
                                     [&] {
                                         ahead.await_lease();
                                         return ahead.to_answer();
                                     }},
                                    {cold_answer, [&] { return plain.to_answer(); }}},
                                   of.rounds);
    judged.measured("warm_exit_" + of.name, ratio(figures, leased, raw));
    if (of.mib <= 256) judged.measured("cold_exit_" + of.name, ratio(figures, cold, raw));
    if (of.mib == 1) {
        judged.measured("warm_answer_1_mib", ratio(figures, leased_answer, raw));
        judged.measured("cold_answer_1_mib", ratio(figures, cold_answer, raw));
    }
    return to_json(figures, raw);
}

json to_first_instruction(const templates_of_size& t, const size& of, goals& judged) {
    const char* const raw = "fork, to the child";
    const char* const leased = "the same, leased";
    const subject called = t.of("cold"), warm = t.of("warm"), ahead = t.of("leased");
    const auto figures = alternate({{raw, [&] { return fork_to_first(t.page()); }},
                                    {"call, to its entry", [&] { return called.to_first(); }},
                                    {"the same, warm",
                                     [&] {
                                         warm.await_pool();
                                         return warm.to_first();
                                     }},
                                    {leased,
                                     [&] {
                                         ahead.await_lease();
                                         return ahead.to_first();
                                     }}},
                                   of.rounds);
    judged.measured("warm_first_" + of.name, ratio(figures, leased, raw));
    return to_json(figures, raw);
}

json of_size(const cleanfork::client& client, boost::asio::io_context& io, const size& of,
             goals& judged) {
    std::printf("(f) calls of a template with %zu MiB touched\n", of.mib);
    const templates_of_size t(client, of.mib);
    const bool is_least = of.mib == 1;
    json out;
    out["to_exit"] = to_exit(t, of, judged);
    out["to_first_instruction"] = to_first_instruction(t, of, judged);
    out["in_flight_16"] =
        in_flight(t.of("cold"), io, static_cast<int>(of.rounds), is_least ? &judged : nullptr);
    if (is_least) out["processor_time"] = processor_time(t.of("cold"), of.rounds, judged);
    return out;
}

}  // namespace

json templates(const cleanfork::client& client, boost::asio::io_context& io, std::size_t rounds,
               goals& judged) {
    json out;
    for (const size& of : {size{1, rounds, "1_mib"}, size{256, rounds / 5, "256_mib"},
                           size{4096, std::max<std::size_t>(rounds / 50, 5), "4_gib"}})
        out[of.name] = of_size(client, io, of, judged);
    return out;
}

}  // namespace bench
