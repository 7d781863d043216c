#include "tests/faults/neighbour.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <optional>

namespace cleanfork::faults {

namespace {

using namespace std::chrono_literals;
constexpr auto k_patience = 8s;

class neighbour {
public:
    explicit neighbour(const surroundings& s) : s_(s) {}

    // The first time it begins: with a template for all, and its own child.
    void look(std::uint64_t descriptors, neighbours_answer& a) {
        if (!client_.valid()) {
            client_ = connect({.path = s_.socket, .timeout = k_patience});
            template_options o = template_of(s_);
            o.process.identity = identity::of_forkserver;
            client_.add_template("t", o, k_patience);
            begin_child();
        }
        end_child(a);
        begin_child();
        serve_the_next(a);
        settle(descriptors, a);
    }

private:
    spawn_options options(const std::string& what) const {
        spawn_options o{.program = s_.helpers + "/fault_program", .args = {"-", what}};
        o.identity = identity::of_forkserver;  // which is watched, and this process is not
        return o;
    }
    void begin_child() { child_ = client_.spawn(options("pause"), k_patience); }
    void end_child(neighbours_answer& a) {
        child_.signal(SIGUSR1);
        const auto status = child_.wait_for(k_patience);
        if (status != exit_status::signaled(SIGUSR1, false))
            complain(a, "the neighbour's child: " +
                            (status ? status->to_string() : "its end is not told"));
    }
    void serve_the_next(neighbours_answer& a) {
        const client next = connect({.path = s_.socket, .timeout = k_patience});
        if (const auto r = next.try_run(options("5"), {}, k_patience); !r)
            complain(a, "the next client's spawn: " + r.error().message());
        else if (r->status != exit_status::exited(5))
            complain(a, "the next client's child: " + r->status.to_string());
        call_options o{.args = {"6"}};
        o.attributes.identity = identity::of_forkserver;
        auto r = next.try_run_call("t", "exit", {}, o, k_patience);
        // A template that was killed is started anew, a moment later.
        const auto give_up = std::chrono::steady_clock::now() + k_patience;
        while (!r && r.error().step == step::fork && std::chrono::steady_clock::now() < give_up)
            r = next.try_run_call("t", "exit", {}, o, k_patience);
        if (!r)
            complain(a, "the next client's call: " + r.error().message());
        else if (r->status != exit_status::exited(6))
            complain(a, "the next client's call: " + r->status.to_string());
    }
    // What the faulty client and the next one had is given back: there are the child and the
    // template.
    void settle(std::uint64_t descriptors, neighbours_answer& a) {
        const auto give_up = std::chrono::steady_clock::now() + 2s;
        for (;;) {
            claim();
            const server_stats s = client_.stats(k_patience);
            a.descriptors = s.descriptors;
            if (s.sessions == 1 && s.children == 2 && s.queued == 0 &&
                (descriptors == 0 || descriptors == s.descriptors))
                return;
            if (std::chrono::steady_clock::now() > give_up)
                return complain(a, "left: " + std::to_string(s.sessions) + " sessions, " +
                                       std::to_string(s.children) + " children, " +
                                       std::to_string(s.queued) + " queued, " +
                                       std::to_string(s.descriptors) + " descriptors, not " +
                                       std::to_string(descriptors));
        }
    }
    // The statuses of kept children whose client did not take them.
    void claim() const {
        for (const child_info& c : client_.list(k_patience))
            if (c.session == 0 && c.status) client_.wait(c.child, k_patience);
    }
    static void complain(neighbours_answer& a, const std::string& text) {
        a.is_well = false;
        copy_text(a.text, text);
    }

    const surroundings& s_;
    client client_;
    process child_;
};

}  // namespace

void be_neighbour(const surroundings& s, int socket) {
    neighbour n(s);
    std::uint64_t descriptors = 0;
    while (::read(socket, &descriptors, sizeof descriptors) == sizeof descriptors) {
        neighbours_answer a{};
        a.is_well = true;
        try {
            n.look(descriptors, a);
        } catch (const std::exception& e) {
            a.is_well = false;
            copy_text(a.text, std::string("the neighbour: ") + e.what());
        }
        if (::send(socket, &a, sizeof a, MSG_NOSIGNAL) != sizeof a) break;
    }
    ::_exit(0);
}

}  // namespace cleanfork::faults
