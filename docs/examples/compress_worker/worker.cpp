// What the children do. The template prepares a compressor once; each child has a
// copy of it, as it was before the first byte, and nothing to set up.
#include <zlib.h>

#include <array>
#include <cleanfork/template.hpp>
#include <stdexcept>
#include <string>

namespace {

z_stream prepared{};

void check(int code, const char* what) {
    if (code != Z_OK && code != Z_STREAM_END)
        throw std::runtime_error(std::string(what) + ": " + zError(code));
}

const cleanfork::initialization prepare([] {
    constexpr int k_gzip_window = 15 + 16, k_memory = 9;
    check(deflateInit2(&prepared, Z_BEST_COMPRESSION, Z_DEFLATED, k_gzip_window, k_memory,
                       Z_DEFAULT_STRATEGY),
          "deflateInit2");
});

// The payload, a block of a file, as one member of a gzip file.
int compress(cleanfork::call& c) {
    z_stream& z = prepared;
    // zlib's declaration lacks the const.
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(c.payload().data()));
    z.avail_in = static_cast<uInt>(c.payload().size());
    std::array<char, 64 * 1024> out;
    for (int code = Z_OK; code != Z_STREAM_END;) {
        z.next_out = reinterpret_cast<Bytef*>(out.data());
        z.avail_out = static_cast<uInt>(out.size());
        check(code = deflate(&z, Z_FINISH), "deflate");
        c.respond({out.data(), out.size() - z.avail_out});
    }
    return 0;
}

const cleanfork::entry entry("compress", compress);

}  // namespace
