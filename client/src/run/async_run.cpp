#include "client/src/run/async_run.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/strand.hpp>

#include "client/src/requests/async_call.hpp"

namespace cleanfork::detail {

namespace {

using boost::asio::posix::stream_descriptor;

// One run, of which the handler is told a run_result or a call_result.
// Everything but the constructor and begin() happens on the strand; the handlers
// in flight own it.
template <class Result>
class run_task : public std::enable_shared_from_this<run_task<Result>> {
public:
    using handler_type = boost::asio::any_completion_handler<void(std::exception_ptr, Result)>;

    run_task(const any_io_executor& io, const spawn_options& attributes, std::string&& input,
             parent_ends&& ends, handler_type&& handler)
        : strand_(boost::asio::make_strand(io)),
          group_(attributes.group),
          input_(std::move(input)),
          streams_(std::move(ends), input_),
          in_(strand_),
          out_(strand_),
          err_(strand_) {
        if (auto slot = handler.get_cancellation_slot(); slot.is_connected()) slot_ = slot;
        done_.emplace(io, std::move(handler));
    }

    run_task(const run_task&) = delete;
    run_task& operator=(const run_task&) = delete;
    // When the context goes first: the descriptors are closed by `streams_` alone.
    ~run_task() { release_streams(); }

    void begin(connection& c, outgoing& m, spawn_request&& request) {
        if (slot_.is_connected())
            slot_.assign([weak = this->weak_from_this()](boost::asio::cancellation_type t) {
                const auto self = weak.lock();
                if (!self || t == boost::asio::cancellation_type::none) return;
                boost::asio::post(self->strand_, [self] { self->cancel(); });
            });
        boost::asio::post(strand_, [self = this->shared_from_this()] { self->watch_streams(); });
        auto on_spawned = [self = this->shared_from_this()](const std::exception_ptr& e,
                                                            process p) {
            self->spawned(e, std::move(p));
        };
        submit(
            c, m, std::move(request),
            spawn_handler(boost::asio::bind_cancellation_slot(
                cancel_spawn_.slot(), boost::asio::bind_executor(strand_, std::move(on_spawned)))));
    }

private:
    void spawned(const std::exception_ptr& e, process p) {
        child_ = std::move(p);
        if (cancelled_) {
            if (!e) kill_run(child_, group_);
            return complete(cancelled(), {});
        }
        if (e) return complete(e, {});
        child_.async_wait(boost::asio::bind_executor(
            strand_, [self = this->shared_from_this()](boost::system::error_code ec,
                                                       exit_status s) { self->ended(ec, s); }));
    }

    void ended(boost::system::error_code ec, const exit_status& s) {
        if (!done_) return;
        if (ec) return complete(exception_of(as_failure(ec, step::wait)), {});
        release_streams();
        streams_.finish();
        complete({}, Result(gathered(child_, s, std::move(streams_))));
    }

    void cancel() {
        if (!done_ || cancelled_) return;
        cancelled_ = true;
        if (!child_.valid()) return cancel_spawn_.emit(boost::asio::cancellation_type::total);
        kill_run(child_, group_);
        complete(cancelled(), {});
    }

    static std::exception_ptr cancelled() {
        return exception_of(ipc::fail(step::wait, ECANCELED, {}, "the run was cancelled"));
    }

    void complete(const std::exception_ptr& e, Result&& r) {
        if (!done_) return;
        release_streams();
        completion<handler_type> done = std::move(*done_);
        done_.reset();
        std::move(done)(e, std::move(r));
    }

    // The descriptors stay with `streams_`, which closes each at its end.
    void watch_streams() {
        if (!done_) return;
        watch(in_, streams_.in(), stream_descriptor::wait_write, &pipes::feed, &pipes::in);
        watch(out_, streams_.out(), stream_descriptor::wait_read, &pipes::read_out, &pipes::out);
        watch(err_, streams_.err(), stream_descriptor::wait_read, &pipes::read_err, &pipes::err);
    }
    void watch(stream_descriptor& d, int fd, stream_descriptor::wait_type type,
               void (pipes::*act)(), int (pipes::*number)() const noexcept) {
        if (fd < 0) return;
        if (!d.is_open()) d.assign(fd);
        d.async_wait(type, [self = this->shared_from_this(), &d, type, act,
                            number](const boost::system::error_code& ec) {
            if (ec || !self->done_ || !d.is_open()) return;
            // Out of the reactor before the end of the stream may close it.
            (void)d.release();
            (self->streams_.*act)();
            self->watch(d, (self->streams_.*number)(), type, act, number);
        });
    }
    void release_streams() noexcept {
        for (stream_descriptor* d : {&in_, &out_, &err_})
            if (d->is_open()) (void)d->release();
    }

    boost::asio::strand<any_io_executor> strand_;
    const process_group group_;
    const std::string input_;
    pipes streams_;
    stream_descriptor in_, out_, err_;
    process child_;
    bool cancelled_ = false;
    boost::asio::cancellation_signal cancel_spawn_;
    boost::asio::cancellation_slot slot_;
    std::optional<completion<handler_type>> done_;
};

template <class Result, class Run>
void begin_run(const std::shared_ptr<connection>& c, const Run& what, std::string&& input,
               typename run_task<Result>::handler_type&& handler) {
    const any_io_executor io = io_executor_for(c ? c->executor() : any_io_executor(), handler);
    outgoing m;
    auto request = !c ? not_connected() : io ? fill_run(m, {}, what) : no_executor();
    if (!request) return refuse<Result>(io, std::move(handler), request.error());
    const auto task = std::make_shared<run_task<Result>>(
        io, what.attributes(), std::move(input), std::move(request->ends), std::move(handler));
    task->begin(*c, m, std::move(*request));
}

}  // namespace

void start_async_run(const std::shared_ptr<connection>& c, const spawn_options& options,
                     std::string input, run_handler handler) {
    begin_run<run_result>(c, program_run{options, input}, std::move(input), std::move(handler));
}

void start_async_run(const std::shared_ptr<connection>& c, const entry_run& what,
                     call_run_handler handler) {
    begin_run<call_result>(c, what, {}, std::move(handler));
}

}  // namespace cleanfork::detail
