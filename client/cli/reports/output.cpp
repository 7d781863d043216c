#include "client/cli/reports/output.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "ipc/base/fd.hpp"

namespace cleanfork::cli {

namespace {

// Of standard output, which is written from many places: the first.
int output_error = 0;

template <int Fd>
ssize_t write_patiently(void*, const char* bytes, std::size_t size) {
    errno = ipc::write_all(Fd, {bytes, size});
    if (Fd == STDOUT_FILENO && output_error == 0) output_error = errno;
    return errno == 0 ? static_cast<ssize_t>(size) : 0;
}

}  // namespace

void wait_for_room() {
    if (std::FILE* const out = ::fopencookie(nullptr, "w", {.write = &write_patiently<1>}))
        stdout = out;
    if (std::FILE* const err = ::fopencookie(nullptr, "w", {.write = &write_patiently<2>})) {
        std::setvbuf(err, nullptr, _IOLBF, BUFSIZ);
        stderr = err;
    }
}

bool output_is_lost() {
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return false;
    // Who reads no more knows that.
    if (output_error != EPIPE)
        say(std::string("standard output: ") + ::strerrordesc_np(output_error) + " (" +
            ::strerrorname_np(output_error) + ")");
    return true;
}

void say(const std::string& line) { std::fprintf(stderr, "cleanfork: %s\n", line.c_str()); }

void print(const std::string& line) {
    std::fprintf(stdout, "%s\n", line.c_str());
    std::fflush(stdout);
}

}  // namespace cleanfork::cli
