// refused: cleanfork::boost_process makes no object of a pid
#include <boost/asio/io_context.hpp>
#include <cleanfork/boost_process.hpp>

int main() {
    boost::asio::io_context io;
    cleanfork::boost_process::process_handle h(io.get_executor(), 1234, 5);
}
