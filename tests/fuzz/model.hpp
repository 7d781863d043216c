// A session, and what may come over it.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <csignal>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "forkserver/daemon/server.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/wire/message.hpp"
#include "tests/fuzz/seeds.hpp"

namespace cleanfork::fuzz {

inline constexpr std::size_t k_queued = 8;  // quotas of a session: small, so that they are met
inline constexpr std::size_t k_children = 16;

enum class program { succeeds, fails, sleeps, is_missing, is_bad, is_held };
inline constexpr unsigned k_programs = 6;

inline v1::SpawnRequest request_of(program p) {
    v1::SpawnRequest r;
    static const char* const paths[] = {"/bin/true",        "/bin/false", "/bin/sleep",
                                        "/no/such/program", "/bin/true",  "/bin/true"};
    r.mutable_exec()->set_path(paths[static_cast<unsigned>(p)]);
    r.mutable_exec()->add_argv("program");
    if (p == program::sleeps) r.mutable_exec()->add_argv("1000");
    if (p == program::is_bad) r.set_nice(99);
    if (p == program::is_held) r.set_reply_hold_us(500);
    return r;
}

class modelled_session {
public:
    explicit modelled_session(daemon::server& s) : server_(s) { open(); }

    // ---- what it does

    void spawn(program p) { ask_for({p}, false); }
    void batch(unsigned count, unsigned kinds) {
        std::vector<program> items;
        for (unsigned i = 0; i < count; ++i)
            items.push_back(static_cast<program>((kinds + i * (kinds >> 4)) % k_programs));
        std::erase(items, program::is_held);  // not in a batch
        if (!items.empty()) ask_for(std::move(items), true);
    }
    void call(const char* of_template) {
        v1::ClientMessage m;
        *m.mutable_spawn() = fuzz::call(of_template);
        wanted w{v1::ServerMessage::kSpawn};
        w.never_begins = true;
        post(m, std::move(w));
    }
    void signal(unsigned which, int number) {
        v1::ClientMessage m;
        const std::uint64_t id = pick(which);
        m.mutable_signal()->set_child(id);
        m.mutable_signal()->set_signal(number);
        const auto c = children_.find(id);
        if (c != children_.end()) c->second.signals.insert(number);
        post(m, {v1::ServerMessage::kSignal});
    }
    void signal_first(int number) {
        if (!children_.empty()) signal(0, number);
    }
    void wait_for(unsigned which) {
        v1::ClientMessage m;
        m.mutable_wait()->set_child(pick(which));
        wanted w{v1::ServerMessage::kWait};
        w.about = m.wait().child();
        post(m, std::move(w));
    }
    void cancel(unsigned which) {
        v1::ClientMessage m;
        m.mutable_cancel()->set_request_id(last_request_ - which % 4);
        if (const auto w = wanted_.find(m.cancel().request_id()); w != wanted_.end())
            w->second.cancelled = true;
        post(m, {v1::ServerMessage::kCancel});
    }
    void ask(unsigned what) {
        v1::ClientMessage m;
        if (what % 2 == 0) {
            m.mutable_list();
            return post(m, {v1::ServerMessage::kList});
        }
        m.mutable_stats();
        post(m, {v1::ServerMessage::kStats});
    }
    void acknowledge() {
        v1::ClientMessage m;
        m.mutable_acknowledge();
        for (auto& [id, c] : children_)
            if (c.told && !c.acknowledged) {
                m.add_acknowledged(id);
                c.acknowledged = true;
            }
        if (m.acknowledged_size() != 0) send(m.SerializeAsString());
    }
    // What ends a session: it is told why, or nothing, and the socket is closed.
    void misbehave(unsigned how) {
        static const std::string bad[] = {"no message", std::string(3, '\xff'), "\x08\x05"};
        may_close_ = true;
        send(bad[how % 3]);
    }
    void hang_up() {
        socket_.reset();
        children_.clear();
        wanted_.clear();
    }
    void kill_all() {
        std::vector<std::uint64_t> alive;
        for (const auto& [id, c] : children_)
            if (!c.told) alive.push_back(id);
        for (const std::uint64_t id : alive) {
            v1::ClientMessage m;
            m.mutable_signal()->set_child(id);
            m.mutable_signal()->set_signal(SIGKILL);
            children_[id].signals.insert(SIGKILL);
            post(m, {v1::ServerMessage::kSignal});
        }
        killing_ = true;
    }

    // ---- what comes

    void read_all() {
        while (socket_) {
            ipc::received r = reader_.receive(socket_.get());
            if (r.status == ipc::receive_status::would_block) return;
            if (r.status != ipc::receive_status::packet) {
                require(may_close_, "a session ends when its client did wrong, and not else");
                return hang_up();
            }
            auto m = ipc::decode_server_message(std::move(r));
            require(m.has_value(), "what the server says is a message");
            take(m->message);
        }
    }

    // Nothing is owed: replies, and the exits of what has to end.
    [[nodiscard]] bool settled() const {
        for (const auto& [id, c] : children_)
            if (!c.told && c.has_to_end()) return false;
        for (const auto& [id, w] : wanted_)
            if (w.kind != v1::ServerMessage::kWait || !waits_for_living(w)) return false;
        return true;
    }
    [[nodiscard]] bool ended_by(std::size_t nth, int number) const {
        for (const auto& [id, c] : children_)
            if (nth-- == 0) return c.told && c.told->signal() == number;
        return false;
    }

private:
    struct wanted {
        v1::ServerMessage::BodyCase kind;
        std::vector<program> programs{};
        bool may_be_over = false;  // a quota: it may be refused for that
        bool never_begins = false;
        bool cancelled = false;
        std::uint64_t about = 0;
    };
    struct child {
        program runs;
        std::set<int> signals;
        std::optional<v1::Exit> told;
        bool acknowledged = false;

        [[nodiscard]] bool has_to_end() const {
            return runs != program::sleeps || signals.contains(SIGKILL) ||
                   signals.contains(SIGTERM) || signals.contains(SIGUSR1) ||
                   signals.contains(SIGINT);
        }
    };

    void open() {
        auto pair = ipc::seqpacket_pair();
        server_.add_session(std::move(pair->second));
        socket_ = std::move(pair->first);
        may_close_ = false;
        send(messages()[0].SerializeAsString());
        wanted_.emplace(0, wanted{v1::ServerMessage::kHello});
    }
    void send(const std::string& body) {
        if (!socket_) open();
        ipc::send_packet(socket_.get(), body, {});
    }
    void post(v1::ClientMessage& m, wanted w) {
        if (!socket_) open();
        m.set_request_id(++last_request_);
        wanted_.emplace(last_request_, std::move(w));
        ipc::send_packet(socket_.get(), m.SerializeAsString(), {});
    }
    void ask_for(std::vector<program> programs, bool as_batch) {
        v1::ClientMessage m;
        wanted w{as_batch ? v1::ServerMessage::kBatch : v1::ServerMessage::kSpawn};
        for (const program p : programs)
            *(as_batch ? m.mutable_batch()->add_items() : m.mutable_spawn()) = request_of(p);
        std::size_t load = programs.size(), queued = programs.size();
        for (const auto& [id, c] : children_) load += c.acknowledged ? 0 : 1;
        for (const auto& [id, each] : wanted_) {
            load += each.programs.size();
            queued += each.programs.size() + (each.never_begins ? 1 : 0);
        }
        w.may_be_over = load > k_children || queued > k_queued;
        w.programs = std::move(programs);
        post(m, std::move(w));
    }
    std::uint64_t pick(unsigned which) const {
        if (children_.empty()) return 1'000'000;  // there is none
        auto at = children_.begin();
        std::advance(at, which % children_.size());
        return at->first;
    }
    [[nodiscard]] bool waits_for_living(const wanted& w) const {
        const auto c = children_.find(w.about);
        return c != children_.end() && !c->second.told && !c->second.has_to_end();
    }

    void take(const v1::ServerMessage& m) {
        if (m.has_exits()) {
            for (const v1::Exit& e : m.exits().exits()) take_exit(e);
            return;
        }
        if (m.request_id() == 0 && m.has_failure() && may_close_) return;  // why it is closed
        const auto at = wanted_.find(m.has_hello() ? 0 : m.request_id());
        require(at != wanted_.end(), "a reply has a request, and each one reply");
        const wanted w = std::move(at->second);
        wanted_.erase(at);
        if (m.has_failure()) return take_failure(w, m.failure());
        require(m.body_case() == w.kind, "a reply is of the kind of its request");
        if (m.has_spawn()) take_spawn(w, m.spawn(), 0);
        if (m.has_batch()) {
            require(static_cast<std::size_t>(m.batch().items_size()) == w.programs.size(),
                    "a batch has a result for each item");
            for (int i = 0; i < m.batch().items_size(); ++i)
                take_spawn(w, m.batch().items(i), static_cast<std::size_t>(i));
        }
        if (m.has_wait()) {
            const auto c = children_.find(w.about);
            require(c != children_.end() && m.wait().exit().child() == w.about,
                    "who waits for a child is told of that one");
            check_status(c->second, m.wait().exit());
        }
    }

    void take_spawn(const wanted& w, const v1::SpawnReply& r, std::size_t item) {
        if (r.has_failure()) return take_failure(w, r.failure(), item);
        require(!w.never_begins, "a template that lies begins nothing");
        const program p = w.programs.at(item);
        require(p != program::is_missing && p != program::is_bad,
                "what cannot be started is not started");
        const auto [c, fresh] = children_.emplace(r.spawned().child(), child{p, {}, {}});
        require(fresh, "a child's number is new");
        if (r.spawned().has_exit()) take_exit(r.spawned().exit());
        if (killing_) kill_all();
    }

    void take_failure(const wanted& w, const v1::Failure& f, std::size_t item = 0) {
        const auto s = static_cast<step>(f.step());
        if (w.kind != v1::ServerMessage::kSpawn && w.kind != v1::ServerMessage::kBatch) return;
        if (w.never_begins) return;
        if (s == step::quota) return require(w.may_be_over, "who is within a quota is not over it");
        if (s == step::queue) return require(w.cancelled, "only what was taken back is not begun");
        const program p = w.programs.at(item);
        if (p == program::is_bad)
            return require(s == step::request, "a bad request is told as one");
        require(p == program::is_missing && s == step::exec && f.error_number() == ENOENT,
                "only a program that is missing fails, and by that");
    }

    void take_exit(const v1::Exit& e) {
        const auto c = children_.find(e.child());
        require(c != children_.end(), "an exit is told to the session of its child");
        require(!c->second.told, "an exit is told once");
        check_status(c->second, e);
        c->second.told = e;
    }

    static void check_status(const child& c, const v1::Exit& e) {
        require(e.how_case() != v1::Exit::kUnknown, "a status is known");
        if (c.told)
            return require(c.told->how_case() == e.how_case() && c.told->code() == e.code() &&
                               c.told->signal() == e.signal(),
                           "a status is the same each time");
        if (e.how_case() == v1::Exit::kSignal)
            return require(c.signals.contains(e.signal()), "a child ends by a signal it was sent");
        require(c.runs != program::sleeps, "what sleeps does not exit");
        require(e.code() == (c.runs == program::fails ? 1U : 0U), "an exit code is the program's");
    }

    daemon::server& server_;
    unique_fd socket_;
    ipc::receiver reader_;
    std::uint64_t last_request_ = 0;
    std::map<std::uint64_t, wanted> wanted_;
    std::map<std::uint64_t, child> children_;
    bool may_close_ = false;
    bool killing_ = false;
};

}  // namespace cleanfork::fuzz
