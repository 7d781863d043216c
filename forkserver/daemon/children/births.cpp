#include "forkserver/daemon/children/births.hpp"

#include <algorithm>
#include <csignal>

#include "forkserver/daemon/loop/boundary.hpp"
#include "forkserver/spawn/birth_places.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr milliseconds k_patience{2};
constexpr std::size_t k_most = 48;
constexpr std::size_t k_most_of_session = 16;
// Who has taken so long waits for something.
constexpr std::chrono::seconds k_hangs_after{1};
// The next look comes when an eighth of the time that it took so far has passed once more.
constexpr int k_part = 8;
constexpr milliseconds k_soonest_look{1};
constexpr milliseconds k_latest_look{100};

nanoseconds age(const births::one& o) {
    return nanoseconds(ipc::monotonic_ns() - o.birth->started_ns());
}

bool hangs(const births::one& o) { return age(o) > k_hangs_after; }

failure late() {
    return ipc::fail(step::queue, ETIMEDOUT, {}, "its deadline passed before its program began");
}

}  // namespace

nanoseconds births::patience(session_id session) const noexcept {
    const bool any = std::any_of(all_.begin(), all_.end(), [&](const one& o) {
        return o.cause.session == session && age(o) > k_patience;
    });
    return any ? nanoseconds() : nanoseconds(k_patience);
}

bool births::has_room_beside() const noexcept {
    const auto fresh =
        std::count_if(all_.begin(), all_.end(), [](const one& o) { return age(o) < k_patience; });
    return static_cast<std::size_t>(fresh) + 1 < spawn::usual_births();
}

bool births::is_full() const noexcept { return all_.size() >= k_most; }

failure births::refusal(session_id session) const {
    std::size_t of_all = 0, of_session = 0;
    const one* oldest = nullptr;
    for (const one& o : all_) {
        if (!hangs(o)) continue;
        ++of_all;
        of_session += o.cause.session == session ? 1 : 0;
        if (oldest == nullptr) oldest = &o;
    }
    if (of_all < k_most && of_session < k_most_of_session) return {};
    return ipc::fail(step::quota, EBUSY, "processes that begin",
                     "RESOURCE_EXHAUSTED: " + std::to_string(of_all) +
                         " have not begun their programs for a second and more, the first of them "
                         "in the step " +
                         std::string(to_string(oldest->birth->at())) +
                         ": a file system does not answer (cleanfork ps lists them)");
}

void births::add(room r, std::unique_ptr<spawn::birth> birth, birth_cause cause,
                 std::unique_ptr<born> whose) noexcept {
    r.front() = {std::move(cause), std::move(birth), std::move(whose),
                 clock::now() + k_soonest_look};
    all_.splice(all_.end(), r);
    bounded(io_, "births", [this] { arm(); });
}

bool births::has(pid_t pid) const noexcept {
    return std::any_of(all_.begin(), all_.end(), [&](const one& o) {
        return o.cause.is_ours && o.birth->process().pid() == pid;
    });
}

// ---- looking -----------------------------------------------------------------

void births::arm() {
    if (all_.empty()) return;
    const auto first = std::min_element(all_.begin(), all_.end(), [](const one& a, const one& b) {
                           return a.next_look < b.next_look;
                       })->next_look;
    look_again_.set(first);
}

// Who is told may add more, or give up others: places in the list stay.
void births::look() {
    const auto now = clock::now();
    for (auto at = all_.begin(); at != all_.end();) {
        if (at->next_look > now) {
            ++at;
            continue;
        }
        if (look_at(*at)) {
            at = all_.erase(at);
            continue;
        }
        const auto next = std::clamp<nanoseconds>(age(*at) / k_part, k_soonest_look, k_latest_look);
        at->next_look = now + next;
        ++at;
    }
    bounded(io_, "births", [this] { owner_.on_births_looked_at(); });
    arm();
}

// Who is told may add more, as in look().
template <class IsReady>
void births::tell_each(IsReady is_ready) {
    for (auto at = all_.begin(); at != all_.end();) {
        if (is_ready(*at) && look_at(*at))
            at = all_.erase(at);
        else
            ++at;
    }
    if (all_.empty()) look_again_.cancel();
}

void births::tell_begun() {
    tell_each([](const one& o) { return o.whose && o.birth->has_told(); });
}

void births::await_fresh() {
    tell_each([](one& o) {
        const nanoseconds left = k_patience - age(o);
        return o.whose && (o.birth->has_told() || (left.count() > 0 && o.birth->wait(left)));
    });
}

bool births::look_at(one& o) {
    if (!o.birth->wait({})) {
        if (o.whose && o.cause.deadline_ns && ipc::monotonic_ns() >= *o.cause.deadline_ns)
            abandon(o, late());
        return false;
    }
    if (o.whose && !o.birth->failed()) {
        auto whose = std::exchange(o.whose, nullptr);
        const std::uint64_t started = o.birth->started_ns();
        tell(std::move(whose), spawn::spawned{std::move(o.birth->process()), started});
        return true;
    }
    // Of one that failed nothing is left when that is told.
    if (!is_gone(o)) return false;
    if (auto whose = std::exchange(o.whose, nullptr)) tell(std::move(whose), o.birth->why());
    return true;
}

bool births::is_gone(one& o) {
    if (!o.cause.is_ours) return true;
    const ipc::reaped r = o.birth->process().reap(WNOHANG);
    return !r.is_child || r.end.has_value();
}

void births::settle(pid_t pid) {
    for (one& o : all_)
        if (o.whose && !o.cause.is_ours && o.birth->process().pid() == pid && o.birth->wait({}) &&
            o.birth->failed())
            tell(std::exchange(o.whose, nullptr), o.birth->why());
}

// ---- giving up ---------------------------------------------------------------

void births::abandon(one& o, const failure& why) {
    auto whose = std::exchange(o.whose, nullptr);
    o.birth->process().signal(SIGKILL);
    if (whose) tell(std::move(whose), why);
}

void births::tell(std::unique_ptr<born> whose, result<spawn::spawned> process) noexcept {
    bounded(io_, "births", [&] { whose->begun(std::move(process)); });
}

bool births::give_up(session_id session, request_id request, const failure& why) {
    bool any = false;
    for (one& o : all_)
        // One that has just begun is told as that.
        if (o.whose && o.cause.session == session && o.cause.request == request &&
            !o.birth->wait({})) {
            abandon(o, why);
            any = true;
        }
    return any;
}

// One that has begun may have started others by now: it is a child, and ends as that.
template <class Which>
void births::end_each(Which which, const failure& why) {
    for (auto at = all_.begin(); at != all_.end();) {
        one& o = *at;
        if (!o.whose || !which(o)) {
            ++at;
            continue;
        }
        if (o.birth->wait({}) && !o.birth->failed()) {
            look_at(o);
            at = all_.erase(at);
            continue;
        }
        abandon(o, why);
        ++at;
    }
}

void births::drop(session_id session) {
    end_each([&](const one& o) { return o.cause.session == session; }, late());
}

void births::give_up_all(const failure& why) {
    end_each([](const one&) { return true; }, why);
}

}  // namespace cleanfork::daemon
