// refused: posix::fork_and_forget_launcher of Boost returns a process also when
#include <boost/asio/io_context.hpp>
#include <cleanfork/boost_process.hpp>

namespace bp = cleanfork::boost_process;

int main() {
    boost::asio::io_context io;
    const std::vector<std::string> args;
    bp::posix::fork_and_forget_launcher()(io, "/bin/true", args);
}
