// One body of a test, run by Boost.Process v2 and by cleanfork::boost_process.
#pragma once

#include <boost/asio.hpp>
#include <boost/process/v2/bind_launcher.hpp>
#include <boost/process/v2/execute.hpp>
#include <boost/process/v2/popen.hpp>
#include <boost/process/v2/process.hpp>
#include <cleanfork/boost_process.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace boost_process_test {

namespace asio = boost::asio;
namespace bp = cleanfork::boost_process;
namespace v2 = boost::process::v2;
using boost::system::error_code;

struct boost_v2 {
    using process = v2::process;
    using launcher = v2::default_process_launcher;
    using popen = v2::popen;
    template <class... Inits>
    static auto bind_default(Inits&&... inits) {
        return v2::bind_default_launcher(std::forward<Inits>(inits)...);
    }
};
struct forkserver {
    using process = bp::process;
    using launcher = bp::default_process_launcher;
    using popen = bp::popen;
    template <class... Inits>
    static auto bind_default(Inits&&... inits) {
        return bp::bind_default_launcher(std::forward<Inits>(inits)...);
    }
};

inline std::string read_all(asio::readable_pipe& p) {
    std::string text;
    error_code ec;
    asio::read(p, asio::dynamic_buffer(text), ec);
    return text;
}

inline std::string contents(const std::filesystem::path& p) {
    std::ostringstream text;
    text << std::ifstream(p).rdbuf();
    return text.str();
}

// What `sh -c script` prints, then its exit code.
template <class Library, class... Inits>
std::string shell(const std::string& script, Inits&&... inits) {
    asio::io_context io;
    asio::readable_pipe out(io);
    typename Library::process p(io, "/bin/sh", {"-c", script}, bp::process_stdio{nullptr, out, {}},
                                std::forward<Inits>(inits)...);
    const std::string text = read_all(out);
    return text + "=" + std::to_string(p.wait());
}

template <class Library>
typename Library::process start(asio::io_context& io, const std::string& script) {
    return typename Library::process(io, "/bin/sh", {"-c", script});
}

// A shell that says when it runs, and then only waits.
struct waiting_shell {
    asio::writable_pipe in;  // never written to: the shell blocks in `read`
    asio::readable_pipe out;
    bp::process process;

    explicit waiting_shell(asio::io_context& io, const std::string& prelude = "")
        : in(io),
          out(io),
          process(io, "/bin/sh",
                  {"-c", prelude + "echo ready; exec 1>&-; while :; do read x; done"},
                  bp::process_stdio{in, out, nullptr}) {
        read_all(out);
    }
};

struct outcome {
    error_code ec;
    int code = -1;
    bool called = false;
    auto handler() {
        return [this](error_code e, int c) { ec = e, code = c, called = true; };
    }
};

// A directory that goes with everything in it.
class temporary_directory {
public:
    temporary_directory() {
        std::string name = (std::filesystem::temp_directory_path() / "cleanfork-XXXXXX").string();
        path_ = ::mkdtemp(name.data());
    }
    temporary_directory(const temporary_directory&) = delete;
    temporary_directory& operator=(const temporary_directory&) = delete;
    ~temporary_directory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    [[nodiscard]] std::string file(const std::string& name) const {
        return (path_ / name).string();
    }
    [[nodiscard]] std::string string() const { return path_.string(); }

private:
    std::filesystem::path path_;
};

inline std::size_t open_descriptors() {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
    return n;
}

}  // namespace boost_process_test
