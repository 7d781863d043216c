// What <cleanfork/boost_process.hpp> takes from Boost.Process v2 as it is.
#pragma once

// With BOOST_PROCESS_USE_STD_FS, Boost 1.81 forgets to include these itself.
#include <algorithm>
#include <boost/optional.hpp>
#include <boost/type_traits/is_constructible.hpp>
#include <boost/type_traits/remove_pointer.hpp>
#include <numeric>
//
#include <boost/process/v2/detail/last_error.hpp>  // start_dir.hpp and stdio.hpp forget it
#include <boost/process/v2/environment.hpp>
#include <boost/process/v2/error.hpp>
#include <boost/process/v2/exit_code.hpp>
#include <boost/process/v2/pid.hpp>
#include <boost/process/v2/posix/bind_fd.hpp>
#include <boost/process/v2/shell.hpp>
#include <boost/process/v2/start_dir.hpp>
#include <boost/process/v2/stdio.hpp>
//
#include <cleanfork/client.hpp>

// What came after 1.81 came in one release: ext, all_pids() and the like.
#if __has_include(<boost/process/v2/ext.hpp>)
#include <boost/process/v2/ext.hpp>
#define CLEANFORK_BOOST_PROCESS_EXT 1
#endif

namespace cleanfork::boost_process {

// ---- Boost's own names, which need no translation
using boost::process::v2::basic_cstring_ref;
using boost::process::v2::basic_string_view;
using boost::process::v2::cstring_ref;
using boost::process::v2::current_pid;
using boost::process::v2::error_category;
using boost::process::v2::error_code;
using boost::process::v2::evaluate_exit_code;
using boost::process::v2::get_shell_category;
using boost::process::v2::native_exit_code_type;
using boost::process::v2::pid_type;
using boost::process::v2::process_environment;
using boost::process::v2::process_is_running;
using boost::process::v2::process_start_dir;
using boost::process::v2::process_stdio;
using boost::process::v2::shell;
using boost::process::v2::shell_category;
using boost::process::v2::string_view;
using boost::process::v2::system_category;
using boost::process::v2::system_error;
using boost::process::v2::u16cstring_ref;
using boost::process::v2::u32cstring_ref;
using boost::process::v2::wcstring_ref;
using boost::process::v2::wstring_view;
namespace environment = boost::process::v2::environment;
namespace error = boost::process::v2::error;
namespace filesystem = boost::process::v2::filesystem;

#ifdef CLEANFORK_BOOST_PROCESS_EXT
using boost::process::v2::all_pids;
using boost::process::v2::child_pids;
using boost::process::v2::parent_pid;
using boost::process::v2::root_pid;
#endif

namespace posix {
using boost::process::v2::posix::bind_fd;
}  // namespace posix

}  // namespace cleanfork::boost_process
