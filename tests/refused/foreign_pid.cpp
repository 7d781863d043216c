// refused: cleanfork::boost_process makes no object of a pid
#include <boost/asio/io_context.hpp>
#include <cleanfork/boost_process.hpp>

int main() {
    boost::asio::io_context io;
    cleanfork::boost_process::process p(io, 1234);  // never a child of the forkserver's
}
