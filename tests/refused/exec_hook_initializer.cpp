// refused: cleanfork::boost_process does not know this initializer
#include <boost/asio/io_context.hpp>
#include <cleanfork/boost_process.hpp>

// Boost would call this in the forked child; here nobody ever would.
struct new_session {
    template <class Launcher>
    boost::system::error_code on_exec_setup(Launcher&, const boost::filesystem::path&,
                                            const char* const*) {
        ::setsid();
        return {};
    }
};

int main() {
    boost::asio::io_context io;
    cleanfork::boost_process::process p(io, "/bin/true", {}, new_session());
}
