// From Boost.Process v2's executable, arguments and initializers to spawn_options.
#pragma once

#include <fcntl.h>

#include <boost/asio/error.hpp>
#include <cleanfork/detail/boost_process_client.hpp>
#include <cleanfork/detail/boost_process_names.hpp>
#include <concepts>
#include <cstring>
#include <map>
#include <type_traits>

namespace cleanfork::boost_process {

namespace detail {
template <class T, class... Known>
inline constexpr bool is_one_of = (std::is_same_v<T, Known> || ...);
}  // namespace detail

// What may follow the arguments of a process.
template <class T>
concept initializer =
    detail::is_one_of<std::remove_cvref_t<T>, process_stdio, process_start_dir, process_environment,
                      posix::bind_fd, client, lifetime> || std::invocable<T&, spawn_options&>;

namespace detail {

namespace asio = boost::asio;

// Boost's own rules for what an argument list may be; argv lives as long as this.
class argument_list : private boost::process::v2::posix::default_launcher {
public:
    template <class Args>
    argument_list(const filesystem::path& program, Args&& args)
        : argv_of_all_(this->build_argv_(program, std::forward<Args>(args))) {}

    [[nodiscard]] const char* const* argv() const noexcept { return argv_of_all_; }

private:
    const char* const* argv_of_all_;
};

// Collects what one process is to be. Descriptors stay the initializers', which
// must live until spawn() has returned.
class request {
public:
    request(const filesystem::path& program, const char* const* argv) {
        const std::string& path = program.native();
        // execve() does not search PATH; spawn_options does without a '/'.
        options_.program = path.find('/') == std::string::npos ? "./" + path : path;
        if (path.empty())
            fail(step::exec, ENOENT, "program",
                 "the path is empty: has environment::find_executable() found nothing?");
        options_.argv0 = *argv != nullptr ? *argv++ : path;
        for (; *argv != nullptr; ++argv) options_.args.emplace_back(*argv);
        stdio_option* const streams[] = {&options_.in, &options_.out, &options_.err};
        for (int fd = 0; fd < 3; ++fd)
            // A program that runs without one gives /dev/null on.
            if (::fcntl(fd, F_GETFD) >= 0) *streams[fd] = stdio::inherit{};
        // Only the program decides: its destructors, or detach().
        options_.lifetime = lifetime::kept();
    }

    template <class Init>
    void accept(Init& init) {
        using type = std::remove_cvref_t<Init>;
        static_assert(
            initializer<Init>,
            "cleanfork::boost_process does not know this initializer: its on_setup() and "
            "on_exec_setup() would run between fork and exec in the caller's own copy, and there "
            "is none, the forkserver makes the process. Use process_stdio, process_start_dir, "
            "process_environment, posix::bind_fd, a cleanfork::lifetime, a cleanfork::client, or "
            "a callable that takes a cleanfork::spawn_options&.");
        if constexpr (std::is_same_v<type, process_stdio>) {
            stream(init.in, "standard input");
            stream(init.out, "standard output");
            stream(init.err, "standard error");
        } else if constexpr (std::is_same_v<type, process_start_dir>) {
            start_in(init.start_dir);
        } else if constexpr (std::is_same_v<type, process_environment>) {
            replace_environment(init);
        } else if constexpr (std::is_same_v<type, posix::bind_fd>) {
            map(init.fd, init.target, init.fd_needs_closing,
                "descriptor " + std::to_string(init.target));
        } else if constexpr (std::is_same_v<type, client>) {
            client_ = &init;
        } else if constexpr (std::is_same_v<type, lifetime>) {
            options_.lifetime = init;
        } else if constexpr (initializer<Init>) {
            current_environment();
            init(options_);
        }
    }

    result<cleanfork::process> spawn() {
        current_environment();
        if (!directory_ && !options_.cwd) start_in(".");
        if (failure_) return *failure_;
        if (directory_) options_.cwd = directory_.get();
        give_descriptors();
        try {
            return client_ != nullptr ? client_->try_spawn(options_)
                                      : client_in_use::instance().get()->try_spawn(options_);
        } catch (const spawn_error& e) {  // of the launch
            return e.why();
        }
    }

private:
    void fail(step s, int error_number, std::string object, std::string detail) {
        if (!failure_) failure_ = failure{s, error_number, std::move(object), std::move(detail)};
    }

    template <class Binding>
    void stream(const Binding& b, const char* name) {
        // Of a pipe that was open already Boost gives the child one end of a new one and leaves
        // the caller's object as it was. Other errors it does not look at: its child would have
        // the caller's stream.
        if (b.ec && b.ec != asio::error::already_open) {
            const failure f = as_failure(b.ec, step::request);
            return fail(f.step, f.error_number, name,
                        "could not create a pipe for the child" +
                            (f.detail.empty() ? "" : ": " + f.detail));
        }
        map(b.fd, b.target, b.fd_needs_closing, name);
    }

    // As a dup2() in the child, after those of the initializers before this one:
    // 1 in `process_stdio{{}, pipe, STDOUT_FILENO}` is what it has become by then.
    // A descriptor that the initializer opened is nobody's earlier target.
    void map(int source, int target, bool opened_here, std::string name) {
        if (source < 0)
            return fail(step::request, EBADF, std::move(name),
                        "not an open descriptor, or the file could not be opened");
        const auto earlier = source <= 2 && !opened_here ? sources_.find(source) : sources_.end();
        if (earlier != sources_.end()) source = earlier->second;
        sources_[target] = source;
    }

    // By descriptor: a path would be looked up from where the forkserver is.
    void start_in(const filesystem::path& path) {
        unique_fd next(::openat(directory_ ? directory_.get() : AT_FDCWD, path.c_str(),
                                O_PATH | O_DIRECTORY | O_CLOEXEC));
        const int error = errno;
        if (!next) return fail(step::chdir, error, path.native(), "");
        directory_ = std::move(next);
    }

    void add_variable(const char* entry) {
        const char* const equals = std::strchr(entry, '=');
        // The first of a name counts, as in getenv().
        if (equals != nullptr && equals != entry)
            options_.env.set.emplace(std::string(entry, equals), equals + 1);
    }

    void current_environment() {
        if (std::exchange(environment_set_, true)) return;
        options_.env.clear = true;
        for (char** e = ::environ; e != nullptr && *e != nullptr; ++e) add_variable(*e);
    }

    void replace_environment(const process_environment& e) {
        environment_set_ = true;
        options_.env = cleanfork::environment::exactly({});
        // Of a copied process_environment, `env` still points into the original.
        for (const auto& own : e.env_buffer) add_variable(own.c_str());
        if (!e.env_buffer.empty()) return;
        for (const char* entry : e.env)
            if (entry != nullptr) add_variable(entry);
    }

    void give_descriptors() {
        stdio_option* const streams[] = {&options_.in, &options_.out, &options_.err};
        for (const auto& [target, source] : sources_) {
            if (target < 0 || target > 2)
                options_.fds.push_back({source, target});
            else if (source != target)
                *streams[target] = stdio::descriptor{source};
        }
    }

    spawn_options options_;
    std::map<int, int> sources_;  // of the child's descriptors, by target
    unique_fd directory_;
    bool environment_set_ = false;
    const client* client_ = nullptr;
    std::optional<failure> failure_;
};

template <class Args, class... Inits>
result<cleanfork::process> spawn(const filesystem::path& program, Args&& args, Inits&... inits) {
    const argument_list arguments(program, std::forward<Args>(args));
    request r(program, arguments.argv());
    (r.accept(inits), ...);
    return r.spawn();
}

}  // namespace detail
}  // namespace cleanfork::boost_process
