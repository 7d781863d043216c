// ext:: of Boost.Process v2, which looks at processes by pid; also by our handles.
#pragma once

#include <cleanfork/detail/boost_process_handle.hpp>

#ifdef CLEANFORK_BOOST_PROCESS_EXT

namespace cleanfork::boost_process::ext {

using boost::process::v2::ext::cmd;
using boost::process::v2::ext::cwd;
using boost::process::v2::ext::env;
using boost::process::v2::ext::env_view;
using boost::process::v2::ext::exe;

template <class Executor>
shell cmd(basic_process_handle<Executor>& h) {
    return cmd(h.id());
}
template <class Executor>
shell cmd(basic_process_handle<Executor>& h, error_code& ec) {
    return cmd(h.id(), ec);
}
template <class Executor>
filesystem::path cwd(basic_process_handle<Executor>& h) {
    return cwd(h.id());
}
template <class Executor>
filesystem::path cwd(basic_process_handle<Executor>& h, error_code& ec) {
    return cwd(h.id(), ec);
}
template <class Executor>
env_view env(basic_process_handle<Executor>& h) {
    return env(h.id());
}
template <class Executor>
env_view env(basic_process_handle<Executor>& h, error_code& ec) {
    return env(h.id(), ec);
}
template <class Executor>
filesystem::path exe(basic_process_handle<Executor>& h) {
    return exe(h.id());
}
template <class Executor>
filesystem::path exe(basic_process_handle<Executor>& h, error_code& ec) {
    return exe(h.id(), ec);
}

}  // namespace cleanfork::boost_process::ext

#endif
