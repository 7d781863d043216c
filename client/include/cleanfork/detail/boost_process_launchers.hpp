// Launchers: those that bind initializers, and Boost's by name.
#pragma once

#include <cleanfork/detail/boost_process_process.hpp>
#include <tuple>

namespace cleanfork::boost_process {

// A launcher that puts initializers of its own before those of each call.
template <class Launcher, class... Init>
class bound_launcher {
public:
    // By reference: 1.81's process_stdio closes its files with each copy that goes.
    template <class Launcher1, class... Init1>
    requires(!std::same_as<std::remove_cvref_t<Launcher1>, bound_launcher>) explicit bound_launcher(
        Launcher1&& launcher, Init1&&... inits)
        : launcher_(std::forward<Launcher1>(launcher)), inits_(std::forward<Init1>(inits)...) {}

    template <detail::launch_place Place, class Args, class... Inits>
    auto operator()(Place&& place, const filesystem::path& exe, Args&& args, Inits&&... inits) {
        return std::apply(
            [&](auto&... bound) {
                return launcher_(place, exe, std::forward<Args>(args), bound...,
                                 std::forward<Inits>(inits)...);
            },
            inits_);
    }
    template <detail::launch_place Place, class Args, class... Inits>
    auto operator()(Place&& place, error_code& ec, const filesystem::path& exe, Args&& args,
                    Inits&&... inits) {
        return std::apply(
            [&](auto&... bound) {
                return launcher_(place, ec, exe, std::forward<Args>(args), bound...,
                                 std::forward<Inits>(inits)...);
            },
            inits_);
    }

private:
    Launcher launcher_;
    std::tuple<Init...> inits_;
};

template <class Launcher, class... Init>
bound_launcher<std::decay_t<Launcher>, std::decay_t<Init>...> bind_launcher(Launcher&& launcher,
                                                                            Init&&... inits) {
    return bound_launcher<std::decay_t<Launcher>, std::decay_t<Init>...>(
        std::forward<Launcher>(launcher), std::forward<Init>(inits)...);
}

template <class... Init>
bound_launcher<default_process_launcher, std::decay_t<Init>...> bind_default_launcher(
    Init&&... inits) {
    // Not by name: an initializer of Boost brings Boost's function of that name with it.
    return bound_launcher<default_process_launcher, std::decay_t<Init>...>(
        default_process_launcher(), std::forward<Init>(inits)...);
}

namespace posix {

// Ways to make a process, which the program sees nothing of: the forkserver has its own.
using default_launcher = forkserver_launcher;
using vfork_launcher = forkserver_launcher;
using pipe_fork_launcher = forkserver_launcher;
using pdfork_launcher = forkserver_launcher;

struct fork_and_forget_launcher {
    template <class... Args>
    process operator()(Args&&...) {
        static_assert(sizeof...(Args) == 0,
                      "posix::fork_and_forget_launcher of Boost returns a process also when the "
                      "program cannot be run; cleanfork always tells that. Use "
                      "default_process_launcher, with an error_code if it may fail.");
        return {};
    }
};

}  // namespace posix

}  // namespace cleanfork::boost_process
