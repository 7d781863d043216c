#include "supervisor.hpp"

#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <boost/asio/post.hpp>

#include "prefork.grpc.pb.h"
#include "sockets.hpp"

namespace prefork {

namespace asio = boost::asio;
using boost::system::error_code;
using clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

enum class state { starting, serving, draining, ended };

struct worker {
    unsigned number, generation, failures;
    asio::steady_timer next_question, limit;
    cleanfork::process process{};
    std::unique_ptr<v1::Control::Stub> control{};  // our own channel to it
    prefork::state state = state::starting;
    clock::time_point since{};  // it serves

    [[nodiscard]] bool fresh() const { return state == state::starting || serves(); }
    [[nodiscard]] bool serves() const { return state == state::serving; }
};

namespace {

constexpr milliseconds k_after_grace{5000};
constexpr milliseconds k_after_loss{2000};

struct question {
    grpc::ClientContext context;
    v1::Question asked;
    v1::Answer answer;
};

}  // namespace

supervisor::supervisor(executor ex, const cleanfork::client& forkserver, supervisor_options options,
                       std::function<void(const std::string&)> tell, std::function<void()> ended)
    : executor_(std::move(ex)),
      forkserver_(forkserver),
      options_(std::move(options)),
      tell_(std::move(tell)),
      ended_(std::move(ended)),
      wanted_(options_.workers),
      generation_(options_.generation) {}

supervisor::~supervisor() = default;

void supervisor::say(const worker& w, const std::string& what) const {
    const pid_t pid = w.process.valid() ? w.process.id() : 0;
    tell_("worker " + std::to_string(w.number) + ", pid " + std::to_string(pid) + ", generation " +
          std::to_string(w.generation) + ": " + what);
}

// ---- how many there are, and of which generation

// What is missing is started, what is too much is drained. While old workers serve, new
// ones start one at a time, and each that serves sends an old one away.
void supervisor::reconcile() {
    if (stopping_) return end_when_empty();
    std::size_t fresh = restarts_.size(), starting = restarts_.size(), old = 0;
    for (const worker_ptr& w : workers_) {
        fresh += w->generation == generation_ && w->fresh();
        starting += w->state == state::starting;
        old += w->generation != generation_ && w->serves();
    }
    for (; fresh < wanted_ && (old == 0 || starting == 0); ++fresh, ++starting) start_worker(0);
    while (const worker_ptr w = superfluous()) drain(w);
    tell_when_settled();
}

supervisor::worker_ptr supervisor::superfluous() const {
    std::size_t serving = 0;
    worker_ptr oldest;
    for (const worker_ptr& w : workers_) {
        if (!w->serves()) continue;
        ++serving;
        if (!oldest || w->generation < oldest->generation) oldest = w;
    }
    return serving > wanted_ ? oldest : nullptr;
}

void supervisor::tell_when_settled() {
    const bool now = workers_.size() == wanted_ && restarts_.empty() &&
                     std::ranges::all_of(workers_, [this](const worker_ptr& w) {
                         return w->serves() && w->generation == generation_;
                     });
    if (now && !settled_)
        tell_(std::to_string(wanted_) + " workers serve, generation " +
              std::to_string(generation_));
    settled_ = now;
}

void supervisor::resize(int difference) {
    if (stopping_) return;
    wanted_ = static_cast<unsigned>(std::max(1, static_cast<int>(wanted_) + difference));
    settled_ = false;
    tell_(std::to_string(wanted_) + " workers are wanted");
    reconcile();
}

void supervisor::reload() {
    if (stopping_) return;
    if (std::exchange(reloading_, true)) {
        reload_again_ = true;
        return;
    }
    forkserver_.async_reload_template(
        options_.template_name, true,
        [this](const std::exception_ptr& failed, const cleanfork::template_info& info) {
            reloading_ = false;
            try {
                if (failed) std::rethrow_exception(failed);
                generation_ = info.generation;
                tell_("generation " + std::to_string(generation_) + " is ready");
            } catch (const std::exception& e) {
                tell_("generation " + std::to_string(generation_) + " stays: " + e.what());
            }
            if (std::exchange(reload_again_, false)) reload();
            reconcile();
        });
}

void supervisor::stop() {
    restarts_.clear();
    error_code ignored;  // it may have ended
    for (const worker_ptr& w : workers_) {
        if (stopping_ && w->process.valid()) w->process.signal(SIGKILL, ignored);
        // One that starts is drained when it serves.
        else if (w->serves())
            drain(w);
    }
    stopping_ = true;
    end_when_empty();
}

void supervisor::end_when_empty() {
    if (!workers_.empty() || asking_ != 0) return;
    tell_(std::to_string(answers_) + " answers of workers to their supervisor");
    ended_();
}

// ---- one worker, from its start to its end

void supervisor::start_worker(unsigned failures) {
    const auto w = std::make_shared<worker>(worker{next_number_++, generation_, failures,
                                                   asio::steady_timer(executor_),
                                                   asio::steady_timer(executor_)});
    workers_.push_back(w);
    auto [ours, theirs] = socket_pair();
    w->control = v1::Control::NewStub(grpc::CreateInsecureChannelFromFd("worker", ours.release()));

    cleanfork::call_options o;
    o.fds = {{"control", theirs.get()}};
    if (options_.listener >= 0) o.fds.emplace("listener", options_.listener);
    o.attributes.err = cleanfork::stdio::inherit{};
    // When the supervisor is killed its workers drain as well.
    o.attributes.lifetime.grace = milliseconds(options_.config.grace_ms()) + k_after_grace;
    forkserver_.async_call(options_.template_name, "serve", options_.config.SerializeAsString(), o,
                           [this, w](const std::exception_ptr& failed, cleanfork::process p) {
                               started(w, failed, std::move(p));
                           });
}

void supervisor::started(const worker_ptr& w, const std::exception_ptr& failed,
                         cleanfork::process p) {
    try {
        if (failed) std::rethrow_exception(failed);
    } catch (const std::exception& e) {
        return ended(w, e.what());
    }
    w->process = std::move(p);
    w->process.async_wait([this, w](error_code ec, const cleanfork::exit_status& status) {
        const std::string why = w->process.error();
        ended(w, (ec ? ec.message() : status.to_string()) + (why.empty() ? "" : ", " + why));
    });
    if (stopping_) kill_after(w, options_.start_timeout, "does not start");
    ask(w, options_.start_timeout);
}

// Its channel is used from before it serves until it is told to drain.
void supervisor::ask(const worker_ptr& w, milliseconds timeout) {
    const auto q = std::make_shared<question>();
    q->context.set_deadline(std::chrono::system_clock::now() + timeout);
    ++asking_;
    w->control->async()->Ask(&q->context, &q->asked, &q->answer,
                             [this, w = w, q](const grpc::Status& status) mutable {
                                 asio::post(executor_, [this, w = std::move(w), status] {
                                     --asking_;
                                     answered(w, status);
                                 });
                             });
}

void supervisor::answered(const worker_ptr& w, const grpc::Status& status) {
    if (w->state == state::ended || w->state == state::draining) return reconcile();
    // Perhaps it has died, which is about to be told; then nothing has to be done here.
    if (!status.ok()) return kill_after(w, k_after_loss, "it does not answer");
    ++answers_;
    if (w->state == state::starting) {
        w->state = state::serving;
        w->since = clock::now();
        say(*w, "serves");
        if (stopping_) return drain(w);
        reconcile();
    }
    if (w->serves()) ask_again(w);
}

void supervisor::ask_again(const worker_ptr& w) {
    w->next_question.expires_after(options_.probe_interval);
    w->next_question.async_wait([this, w](error_code ec) {
        if (!ec && w->serves()) ask(w, options_.probe_timeout);
    });
}

void supervisor::drain(const worker_ptr& w) {
    w->state = state::draining;
    error_code ec;  // it may have ended
    w->process.signal(SIGTERM, ec);
    kill_after(w, milliseconds(options_.config.grace_ms()) + k_after_grace, "it does not end");
}

void supervisor::kill_after(const worker_ptr& w, milliseconds time, const char* why) {
    w->limit.expires_after(time);
    w->limit.async_wait([this, w, why](error_code ec) {
        if (ec || w->state == state::ended) return;
        say(*w, std::string("killed, since ") + why);
        w->process.signal(SIGKILL, ec);
    });
}

void supervisor::ended(const worker_ptr& w, const std::string& how) {
    say(*w, how);
    const bool expected = w->state == state::draining;
    workers_.remove(w);
    w->next_question.cancel();
    w->limit.cancel();
    if (!expected && !stopping_) start_again(*w);
    w->state = state::ended;
    reconcile();
}

void supervisor::start_again(const worker& w) {
    const bool served = w.serves() && clock::now() - w.since >= options_.stable;
    const unsigned failures = served ? 1 : w.failures + 1;
    const unsigned doublings = std::min(failures - 1, 20U);
    const milliseconds delay =
        std::min(options_.backoff * (1U << doublings), options_.backoff_limit);
    settled_ = false;
    const auto timer = restarts_.emplace(restarts_.end(), executor_, delay);
    timer->async_wait([this, timer, failures](error_code ec) {
        if (ec || stopping_) return;  // the timer is gone
        restarts_.erase(timer);
        start_worker(failures);
    });
}

}  // namespace prefork
