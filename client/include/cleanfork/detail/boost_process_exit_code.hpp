// Exit codes as error codes: code_as_error(), which Boost has up to 1.82, and
// check_exit_code(), which it has since. Both are here with every version.
#pragma once

#include <boost/asio/associator.hpp>
#include <boost/asio/async_result.hpp>
#include <cleanfork/detail/boost_process_names.hpp>
#include <type_traits>
#include <utility>

namespace cleanfork::boost_process {

// An exit code other than 0 becomes the error, where there is none yet.
inline error_code check_exit_code(
    error_code& ec, native_exit_code_type code,
    const error_category& category = error::get_exit_code_category()) {
    if (!ec) ec.assign(code, category);
    return ec;
}

// A token for async_wait(): what it wraps is told void(error_code) alone.
template <class Token>
struct code_as_error_t {
    Token token_;
    const error_category& category;
};

template <class Token>
code_as_error_t<std::decay_t<Token>> code_as_error(
    Token&& token, const error_category& category = error::get_exit_code_category()) {
    return {std::forward<Token>(token), category};
}

namespace detail {

template <class Handler>
struct code_as_error_handler {
    Handler handler;
    const error_category& category;

    void operator()(error_code ec, native_exit_code_type code) {
        std::move(handler)(check_exit_code(ec, code, category));
    }
};

}  // namespace detail
}  // namespace cleanfork::boost_process

namespace boost::asio {

template <class Token>
struct async_result<cleanfork::boost_process::code_as_error_t<Token>,
                    void(boost::system::error_code, int)> {
    template <class Initiation, class Wrapped, class... Args>
    static auto initiate(Initiation&& initiation, Wrapped&& token, Args&&... args) {
        return async_initiate<Token, void(boost::system::error_code)>(
            [initiation = std::forward<Initiation>(initiation), &category = token.category](
                auto&& handler, auto&&... rest) mutable {
                using handler_type = std::decay_t<decltype(handler)>;
                std::move(initiation)(
                    cleanfork::boost_process::detail::code_as_error_handler<handler_type>{
                        std::forward<decltype(handler)>(handler), category},
                    std::forward<decltype(rest)>(rest)...);
            },
            token.token_, std::forward<Args>(args)...);
    }
};

// The executor, the allocator and the cancellation slot are those of what is wrapped.
template <template <class, class> class Associator, class Handler, class Default>
struct associator<Associator, cleanfork::boost_process::detail::code_as_error_handler<Handler>,
                  Default> : Associator<Handler, Default> {
    using wrapper = cleanfork::boost_process::detail::code_as_error_handler<Handler>;

    static auto get(const wrapper& w) noexcept {
        return Associator<Handler, Default>::get(w.handler);
    }
    static auto get(const wrapper& w, const Default& d) noexcept {
        return Associator<Handler, Default>::get(w.handler, d);
    }
};

}  // namespace boost::asio
