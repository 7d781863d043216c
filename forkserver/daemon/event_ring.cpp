#include "forkserver/daemon/event_ring.hpp"

#include <algorithm>
#include <ctime>

#include "forkserver/daemon/loop/boundary.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::size_t k_kept_for_watchers = 8192;
constexpr std::size_t k_events_a_packet = 256;

std::uint64_t realtime_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(now.tv_nsec);
}

void add_field(const log_field& f, v1::Event& out) {
    v1::EventField& field = *out.add_fields();
    field.set_key(std::string(f.key));
    if (const auto* text = std::get_if<std::string_view>(&f.value))
        field.set_text(std::string(*text));
    else if (const auto* number = std::get_if<std::int64_t>(&f.value))
        field.set_number(*number);
    else
        field.set_number(static_cast<std::int64_t>(std::get<std::uint64_t>(f.value)));
}

}  // namespace

event_ring::event_ring(core& c) : core_(c) { core_.log.tell(this, false); }

void event_ring::ask(session& s, request_id request, std::uint64_t after) {
    if (after > last())
        return s.send_failure(request, ipc::fail(step::request, EINVAL, std::to_string(after),
                                                 "no event has that number yet: it is of another "
                                                 "forkserver; begin with 0"));
    const std::size_t most = core_.config.quotas.queued_per_session;
    if (s.account->waits >= most)
        return s.send_failure(request, core_.over_quota("waits", most, "--max-queued"));
    watchers_.insert(s.id());
    core_.log.tell(this, true);
    if (after == 0 || after < last()) return answer(s, request, after);
    waiting_.push_back({s.id(), request, after, charge(s.account, {.waits = 1})});
}

bool event_ring::cancel(session& s, request_id request, const failure& why) {
    const auto gone = std::erase_if(
        waiting_, [&](const waiting& w) { return w.session == s.id() && w.request == request; });
    if (gone != 0) s.send_failure(request, why);
    return gone != 0;
}

void event_ring::session_is_over(session_id session) {
    std::erase_if(waiting_, [&](const waiting& w) { return w.session == session; });
    watchers_.erase(session);
    if (!watchers_.empty()) return;
    core_.log.tell(this, false);
    while (kept_.size() > core_.config.quotas.kept_events) drop_first();
}

void event_ring::drop_first() noexcept {
    kept_.pop_front();
    ++first_;
}

// Without memory for it, it is one that was missed, with those before it.
void event_ring::on_line(log_level level, std::string_view event,
                         std::initializer_list<log_field> fields) noexcept {
    try {
        const std::size_t most =
            watchers_.empty() ? core_.config.quotas.kept_events : k_kept_for_watchers;
        while (!kept_.empty() && kept_.size() >= most) drop_first();
        v1::Event& e = kept_.emplace_back();
        e.set_time_ns(realtime_ns());
        e.set_level(static_cast<std::uint32_t>(level));
        e.set_name(std::string(event));
        for (const log_field& f : fields) add_field(f, e);
    } catch (...) {
        first_ += kept_.size() + 1;
        kept_.clear();
    }
    if (waiting_.empty() || answers_due_) return;
    answers_due_ = true;
    // Together with what else happens in this turn.
    bounded(core_.io, "events",
            [this] { post_bounded(core_.io, "events", [this] { answer_all(); }); });
}

void event_ring::answer_all() {
    answers_due_ = false;
    for (const waiting& w : std::exchange(waiting_, {})) {
        session* const s = core_.sessions.find(w.session);
        if (s == nullptr) continue;
        bounded(core_.io, "events", [&] { answer(*s, w.request, w.after); });
    }
}

void event_ring::answer(session& s, request_id request, std::uint64_t after) const {
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    v1::EventsReply& r = *reply.mutable_events();
    const std::uint64_t from = std::max(after + 1, first_);
    const std::uint64_t to = std::min(last(), from + k_events_a_packet - 1);
    r.set_next(to);
    r.set_last(last());
    r.set_dropped(after != 0 ? from - (after + 1) : 0);
    for (std::uint64_t n = from; n <= to; ++n) *r.add_events() = kept_[n - first_];
    s.send(reply);
}

}  // namespace cleanfork::daemon
