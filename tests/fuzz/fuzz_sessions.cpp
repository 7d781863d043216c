// Sessions of a whole server, driven by sequences of good and bad requests, against a model of what
// may happen: each request has one reply, of its kind; statuses are exact, and told once; a refusal
// has a reason that the model knows; a neighbour notices nothing. See tests/fuzz/model.hpp.
#include <array>
#include <chrono>
#include <csignal>

#include "tests/fuzz/model.hpp"
#include "tests/fuzz/served.hpp"

using namespace cleanfork;
using namespace cleanfork::fuzz;

namespace {

constexpr std::size_t k_most_steps = 48;
constexpr std::chrono::seconds k_patience{10};
// What signals the sequences send; 0 is none, and 99 is no signal.
constexpr int k_signals[] = {SIGTERM, SIGKILL, SIGUSR1, SIGINT, 0, 99};

// The bytes of the input, then zeros.
class bytes_of_input {
public:
    bytes_of_input(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}
    unsigned next() { return at_ == end_ ? 0 : *at_++; }
    [[nodiscard]] bool empty() const { return at_ == end_; }

private:
    const std::uint8_t *at_, *end_;
};

// None of what it tells is true, so no call of it may ever begin.
void tell_lies(false_template& t, bytes_of_input& in) {
    template_packet p = template_packets()[in.next() % template_packets().size()];
    const unsigned change = in.next();
    if (change % 4 == 1 && !p.bytes.empty())
        p.bytes[in.next() % p.bytes.size()] = static_cast<char>(in.next());
    if (change % 4 == 2) p.bytes.resize(p.bytes.size() / 2);
    t.tell(p.bytes, change / 4 % 3);
    t.read_all();
}

class scene {
public:
    scene(daemon::event_loop& io, daemon::server& s)
        : io_(io),
          neighbour_(s),
          sessions_{modelled_session(s), modelled_session(s)},
          template_(s) {
        neighbour_.spawn(program::sleeps);
        settle();
    }

    void run(bytes_of_input in) {
        for (std::size_t n = 0; n < k_most_steps && !in.empty(); ++n) step(in);
        template_.hang_up();
        for (modelled_session& s : sessions_) s.kill_all();
        settle();
        for (modelled_session& s : sessions_) s.hang_up();
        neighbour_.spawn(program::fails);
        neighbour_.signal_first(SIGUSR1);
        settle();
        require(neighbour_.ended_by(0, SIGUSR1),
                "the neighbour's child lived until its own signal");
    }

private:
    void step(bytes_of_input& in) {
        const unsigned what = in.next();
        modelled_session& s = sessions_[what & 1];
        const unsigned how = in.next();
        switch (what / 2 % 12) {
            case 0:
            case 1: s.spawn(static_cast<program>(how % k_programs)); break;
            case 2: s.batch(how % 7 + 1, in.next()); break;
            case 3: s.signal(how, k_signals[in.next() % std::size(k_signals)]); break;
            case 4: s.wait_for(how); break;
            case 5: s.cancel(how); break;
            case 6: s.ask(how); break;
            case 7: s.acknowledge(); break;
            case 8: s.call("e"); break;
            case 9: tell_lies(template_, in); break;
            case 10:
                if (how % 4 == 0)
                    s.misbehave(in.next());
                else if (how % 4 == 1)
                    s.hang_up();
                break;
            default: (void)io_.run_once(std::chrono::microseconds(how * 20)); break;
        }
        if ((what & 128) != 0) turn();
    }

    void turn() {
        do_what_is_at_hand(io_);
        neighbour_.read_all();
        for (modelled_session& s : sessions_) s.read_all();
    }

    // Until nobody is owed a reply or an exit of a process that has to end.
    void settle() {
        const auto until = std::chrono::steady_clock::now() + k_patience;
        for (;;) {
            turn();
            if (neighbour_.settled() && sessions_[0].settled() && sessions_[1].settled()) return;
            require(std::chrono::steady_clock::now() < until, "each is told what it waits for");
            (void)io_.run_once(std::chrono::milliseconds(5));
        }
    }

    daemon::event_loop& io_;
    modelled_session neighbour_;
    std::array<modelled_session, 2> sessions_;
    false_template template_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    daemon::quotas quotas;
    quotas.queued_per_session = k_queued;
    quotas.children_per_session = k_children;
    serve(quotas, [&](daemon::event_loop& io, daemon::server& s) {
        scene(io, s).run({data, size});
    });
    return 0;
}
