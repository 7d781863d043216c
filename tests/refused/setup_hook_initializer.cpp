// refused: cleanfork::boost_process does not know this initializer
#include <boost/asio/io_context.hpp>
#include <cleanfork/boost_process.hpp>

struct more_descriptors {
    boost::system::error_code on_setup(boost::process::v2::posix::default_launcher& launcher,
                                       const boost::filesystem::path&, const char* const*) {
        launcher.fd_whitelist.push_back(7);
        return {};
    }
};

int main() {
    boost::asio::io_context io;
    boost::system::error_code ec;
    more_descriptors more;
    cleanfork::boost_process::default_process_launcher()(io, ec, "/bin/true",
                                                         std::vector<std::string>{}, more);
}
