#include "client/src/connection/completion.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>

#include "ipc/base/sys.hpp"

namespace cleanfork::detail {

namespace {

template <class... Executors>
any_io_executor first_of(const any_completion_executor& e) {
    any_io_executor found;
    const auto attempt = [&]<class Executor>(const Executor* stored) {
        if (!found && stored != nullptr) found = *stored;
    };
    (attempt(e.target<Executors>()), ...);
    return found;
}

}  // namespace

any_io_executor io_executor_of(const any_completion_executor& e) {
    if (!e) return {};
    using context_executor = boost::asio::io_context::executor_type;
    using pool_executor = boost::asio::thread_pool::executor_type;
    return first_of<any_io_executor, context_executor, pool_executor,
                    boost::asio::strand<any_io_executor>, boost::asio::strand<context_executor>,
                    boost::asio::strand<pool_executor>>(e);
}

failure no_executor() {
    return ipc::fail(step::request, EINVAL, "executor",
                     "an asynchronous operation needs an executor: give one to launch() or "
                     "connect(), or bind one to the completion token with bind_executor()");
}

}  // namespace cleanfork::detail
