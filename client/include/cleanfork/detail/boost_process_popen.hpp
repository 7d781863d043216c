// popen: a process with pipes to its input and output, as in Boost.Process v2.
#pragma once

#include <boost/asio/readable_pipe.hpp>
#include <boost/asio/writable_pipe.hpp>
#include <cleanfork/detail/boost_process_process.hpp>

namespace cleanfork::boost_process {

// A stream: written to the child's standard input, read from its output.
// Standard error is the caller's unless an initializer says otherwise.
template <class Executor = boost::asio::any_io_executor>
class basic_popen : public basic_process<Executor> {
public:
    using executor_type = Executor;
    using stdin_type = boost::asio::basic_writable_pipe<Executor>;
    using stdout_type = boost::asio::basic_readable_pipe<Executor>;
    template <class Executor1>
    struct rebind_executor {
        using other = basic_popen<Executor1>;
    };

    basic_popen(basic_popen&&) = default;
    basic_popen& operator=(basic_popen&&) = default;
    template <class Executor1>
    basic_popen(basic_popen<Executor1>&& other)
        : basic_process<Executor>(std::move(other)),
          in_(std::move(other.in_)),
          out_(std::move(other.out_)) {}
    explicit basic_popen(executor_type e) : basic_process<Executor>(std::move(e)) {}
    template <detail::context_type Context>
    explicit basic_popen(Context& context) : basic_process<Executor>(context) {}

    template <class... Inits>
    basic_popen(executor_type e, const filesystem::path& exe,
                std::initializer_list<string_view> args, Inits&&... inits)
        : basic_popen(std::move(e)) {
        start(exe, args, std::forward<Inits>(inits)...);
    }
    template <class Args, class... Inits>
    basic_popen(executor_type e, const filesystem::path& exe, Args&& args, Inits&&... inits)
        : basic_popen(std::move(e)) {
        start(exe, std::forward<Args>(args), std::forward<Inits>(inits)...);
    }
    template <detail::context_type Context, class... Inits>
    basic_popen(Context& context, const filesystem::path& exe,
                std::initializer_list<string_view> args, Inits&&... inits)
        : basic_popen(context) {
        start(exe, args, std::forward<Inits>(inits)...);
    }
    template <detail::context_type Context, class Args, class... Inits>
    basic_popen(Context& context, const filesystem::path& exe, Args&& args, Inits&&... inits)
        : basic_popen(context) {
        start(exe, std::forward<Args>(args), std::forward<Inits>(inits)...);
    }

    // By a launcher, such as that of bind_default_launcher().
    template <class Launcher, detail::launch_place Place, class... Inits>
    requires(!detail::launch_place<Launcher>)
        basic_popen(Launcher&& launcher, Place&& place, const filesystem::path& exe,
                    std::initializer_list<string_view> args, Inits&&... inits)
        : basic_popen(detail::executor_at(place)) {
        start_by(launcher, exe, args, std::forward<Inits>(inits)...);
    }
    template <class Launcher, detail::launch_place Place, class Args, class... Inits>
    requires(!detail::launch_place<Launcher>)
        basic_popen(Launcher&& launcher, Place&& place, const filesystem::path& exe, Args&& args,
                    Inits&&... inits)
        : basic_popen(detail::executor_at(place)) {
        start_by(launcher, exe, std::forward<Args>(args), std::forward<Inits>(inits)...);
    }

    stdin_type& get_stdin() { return in_; }
    stdout_type& get_stdout() { return out_; }
    const stdin_type& get_stdin() const { return in_; }
    const stdout_type& get_stdout() const { return out_; }

    template <class Buffers>
    std::size_t write_some(const Buffers& buffers) {
        return in_.write_some(buffers);
    }
    template <class Buffers>
    std::size_t write_some(const Buffers& buffers, error_code& ec) {
        return in_.write_some(buffers, ec);
    }
    template <class Buffers,
              class Token = typename boost::asio::default_completion_token<Executor>::type>
    auto async_write_some(const Buffers& buffers, Token&& token = Token()) {
        return in_.async_write_some(buffers, std::forward<Token>(token));
    }
    template <class Buffers>
    std::size_t read_some(const Buffers& buffers) {
        return out_.read_some(buffers);
    }
    template <class Buffers>
    std::size_t read_some(const Buffers& buffers, error_code& ec) {
        return out_.read_some(buffers, ec);
    }
    template <class Buffers,
              class Token = typename boost::asio::default_completion_token<Executor>::type>
    auto async_read_some(const Buffers& buffers, Token&& token = Token()) {
        return out_.async_read_some(buffers, std::forward<Token>(token));
    }

private:
    template <class>
    friend class basic_popen;

    template <class Args, class... Inits>
    void start(const filesystem::path& exe, Args&& args, Inits&&... inits) {
        forkserver_launcher launcher;
        start_by(launcher, exe, std::forward<Args>(args), std::forward<Inits>(inits)...);
    }
    template <class Launcher, class Args, class... Inits>
    void start_by(Launcher& launcher, const filesystem::path& exe, Args&& args, Inits&&... inits) {
        basic_process<Executor>::operator=(
            launcher(this->get_executor(), exe, std::forward<Args>(args),
                     std::forward<Inits>(inits)..., process_stdio{in_, out_, {}}));
    }

    stdin_type in_{this->get_executor()};
    stdout_type out_{this->get_executor()};
};

using popen = basic_popen<>;

}  // namespace cleanfork::boost_process
