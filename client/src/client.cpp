#include <cleanfork/client.hpp>

#include "client/src/requests/simple_request.hpp"
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
    return connection_ ? connection_->server : none;
}

client::executor_type client::get_executor() const noexcept {
    return connection_ ? connection_->executor() : executor_type();
}

// ---- blocking --------------------------------------------------------------

result<process> client::try_spawn(const spawn_options& options, timeout t) const {
    if (!connection_) return not_connected();
    return detail::spawn(*connection_, options, deadline_after(t));
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
    if (!connection_) throw spawn_error(not_connected());
    if (items.empty()) return {};
    const deadline d = deadline_after(t);
    outgoing m;
    auto convert = prepare_batch(m, items, d);
    if (!convert) throw spawn_error(convert.error());
    return detail::call(*connection_, m, std::move(*convert), d).value();
}

result<run_result> client::try_run(const spawn_options& options, std::string_view input,
                                   timeout t) const {
    if (!connection_) return not_connected();
    const deadline d = deadline_after(t);
    outgoing m;
    auto convert = prepare_run(m, options, !input.empty(), d);
    if (!convert) return convert.error();
    auto r = detail::run(*connection_, m, std::move(*convert), options, input, d);
    if (!r) return r.error();
    return run_result(std::move(*r));
}

run_result client::run(const spawn_options& options, std::string_view input, timeout t) const {
    return std::move(try_run(options, input, t)).value();
}

void client::signal(std::uint64_t child, int number, signal_target target, timeout t) const {
    outgoing m;
    fill_signal(m, child, number, target);
    simple_call<to_nothing>(connection_, m, t).value();
}

wait_result client::wait(std::uint64_t child, timeout t) const {
    outgoing m;
    m->mutable_wait()->set_child(child);
    return simple_call<to_wait_result>(connection_, m, t).value();
}

std::vector<child_info> client::list(timeout t) const {
    outgoing m;
    m->mutable_list();
    return simple_call<to_children>(connection_, m, t).value();
}

server_stats client::stats(timeout t) const {
    outgoing m;
    m->mutable_stats();
    return simple_call<to_stats>(connection_, m, t).value();
}

void client::shutdown(timeout t) const {
    outgoing m;
    m->mutable_shutdown();
    simple_call<to_nothing>(connection_, m, t).value();
}

unique_fd client::open_session() const {
    if (!connection_) throw spawn_error(not_connected());
    return detail::open_session(*connection_).value();
}

void client::update_base(timeout t) const {
    outgoing m;
    fill_base(*m->mutable_update_base()->mutable_base(), m.descriptors);
    simple_call<to_nothing>(connection_, m, t).value();
}

// ---- asynchronous ----------------------------------------------------------

void client::start_spawn(const spawn_options& options, spawn_handler h) const {
    outgoing m;
    auto convert = connection_ ? prepare_spawn(m, options, {}) : not_connected();
    if (!convert)
        return refuse<to_process>(io_executor_for(get_executor(), h), std::move(h),
                                  convert.error());
    start(*connection_, m, std::move(*convert), std::move(h));
}

void client::start_batch(const std::vector<spawn_options>& items, batch_handler h) const {
    outgoing m;
    auto convert = connection_ ? prepare_batch(m, items, {}) : not_connected();
    if (!convert || items.empty()) {
        const any_io_executor io = io_executor_for(get_executor(), h);
        if (!convert) return refuse<to_batch>(io, std::move(h), convert.error());
        completion<batch_handler> done(io, std::move(h));
        return std::move(done)(std::exception_ptr(), to_batch::value());
    }
    start(*connection_, m, std::move(*convert), std::move(h));
}

void client::start_run(const spawn_options& options, std::string input, run_handler h) const {
    if (!connection_) {
        completion<run_handler> done(io_executor_for({}, h), std::move(h));
        return std::move(done)(exception_of(not_connected()), run_result());
    }
    start_async_run(*connection_, options, std::move(input), std::move(h));
}

void client::start_signal(std::uint64_t child, int number, signal_target target,
                          void_handler h) const {
    outgoing m;
    fill_signal(m, child, number, target);
    simple_start<to_nothing>(connection_, m, std::move(h));
}

void client::start_other_wait(std::uint64_t child, other_wait_handler h) const {
    outgoing m;
    m->mutable_wait()->set_child(child);
    simple_start<to_wait_result>(connection_, m, std::move(h));
}

void client::start_list(list_handler h) const {
    outgoing m;
    m->mutable_list();
    simple_start<to_children>(connection_, m, std::move(h));
}

void client::start_stats(stats_handler h) const {
    outgoing m;
    m->mutable_stats();
    simple_start<to_stats>(connection_, m, std::move(h));
}

void client::start_shutdown(void_handler h) const {
    outgoing m;
    m->mutable_shutdown();
    simple_start<to_nothing>(connection_, m, std::move(h));
}

void client::start_update_base(void_handler h) const {
    outgoing m;
    fill_base(*m->mutable_update_base()->mutable_base(), m.descriptors);
    simple_start<to_nothing>(connection_, m, std::move(h));
}

}  // namespace cleanfork
