#include <cleanfork/client.hpp>

#include "client/src/requests/async_call.hpp"
#include "client/src/requests/blocking_call.hpp"
#include "client/src/requests/server_requests.hpp"
#include "client/src/requests/spawn_requests.hpp"
#include "client/src/run/async_run.hpp"
#include "client/src/run/run.hpp"
#include "ipc/wire/socket_path.hpp"

namespace cleanfork {

using namespace detail;

std::string default_socket_path() { return ipc::default_socket_path(); }

client::client(std::shared_ptr<connection> c) noexcept : connection_(std::move(c)) {}

client::~client() = default;

bool client::connected() const noexcept { return connection_ && !connection_->lost(); }

const server_info& client::server() const {
    static const server_info none;
    return connection_ ? connection_->facts().server : none;
}

client::executor_type client::get_executor() const noexcept {
    return connection_ ? connection_->executor() : executor_type();
}

// ---- blocking --------------------------------------------------------------

result<process> client::try_spawn(const spawn_options& options, timeout t) const {
    return ask<spawn_request>(connection_, t, options);
}

process client::spawn(const spawn_options& options, timeout t) const {
    return std::move(try_spawn(options, t)).value();
}

process client::spawn(const spawn_options& options, boost::system::error_code& ec,
                      timeout t) const {
    auto r = try_spawn(options, t);
    ec = r ? boost::system::error_code() : make_error_code(r.error());
    return r ? std::move(*r) : process();
}

std::vector<result<process>> client::spawn_batch(const std::vector<spawn_options>& items,
                                                 timeout t) const {
    if (connection_ && items.empty()) return {};
    return ask<batch_request>(connection_, t, items).value();
}

result<run_result> client::try_run(const spawn_options& options, std::string_view input,
                                   timeout t) const {
    auto r = detail::run(connection_, program_run{options, input}, t);
    if (!r) return r.error();
    return run_result(std::move(*r));
}

run_result client::run(const spawn_options& options, std::string_view input, timeout t) const {
    return std::move(try_run(options, input, t)).value();
}

void client::signal(std::uint64_t child, int number, signal_target target, timeout t) const {
    ask<signal_request>(connection_, t, ipc::child_id(child), number, target).value();
}

wait_result client::wait(std::uint64_t child, timeout t) const {
    return ask<wait_request>(connection_, t, ipc::child_id(child)).value();
}

std::vector<child_info> client::list(timeout t) const {
    return ask<list_request>(connection_, t).value();
}

server_stats client::stats(timeout t) const { return ask<stats_request>(connection_, t).value(); }

event_page client::events(std::uint64_t after, timeout t) const {
    return ask<events_request>(connection_, t, after).value();
}

void client::shutdown(timeout t) const { ask<shutdown_request>(connection_, t).value(); }

unique_fd client::open_session() const {
    if (!connection_) throw spawn_error(not_connected());
    return detail::open_session(*connection_).value();
}

void client::update_base(timeout t) const { ask<update_base_request>(connection_, t).value(); }

// ---- asynchronous ----------------------------------------------------------

void client::start_spawn(const spawn_options& options, spawn_handler h) const {
    start<spawn_request>(connection_, std::move(h), options);
}

void client::start_batch(const std::vector<spawn_options>& items, batch_handler h) const {
    if (!connection_ || !items.empty())
        return start<batch_request>(connection_, std::move(h), items);
    completion<batch_handler> done(io_executor_for(get_executor(), h), std::move(h));
    std::move(done)(std::exception_ptr(), batch_request::value());
}

void client::start_run(const spawn_options& options, std::string input, run_handler h) const {
    start_async_run(connection_, options, std::move(input), std::move(h));
}

void client::start_signal(std::uint64_t child, int number, signal_target target,
                          void_handler h) const {
    start<signal_request>(connection_, std::move(h), ipc::child_id(child), number, target);
}

void client::start_other_wait(std::uint64_t child, other_wait_handler h) const {
    start<wait_request>(connection_, std::move(h), ipc::child_id(child));
}

void client::start_list(list_handler h) const { start<list_request>(connection_, std::move(h)); }

void client::start_stats(stats_handler h) const { start<stats_request>(connection_, std::move(h)); }

void client::start_events(std::uint64_t after, events_handler h) const {
    start<events_request>(connection_, std::move(h), after);
}

void client::start_shutdown(void_handler h) const {
    start<shutdown_request>(connection_, std::move(h));
}

void client::start_update_base(void_handler h) const {
    start<update_base_request>(connection_, std::move(h));
}

}  // namespace cleanfork
