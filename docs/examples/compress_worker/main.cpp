// Compresses files with several processes at a time, from a program with threads.
//
//     compress_worker DIRECTORY FILE...     writes DIRECTORY/NAME.gz for each
//
// The program is its own template: the children of worker.cpp are forked from a
// clean process of the same binary, never from this one.
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <cleanfork/client.hpp>
#include <cleanfork/template.hpp>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <semaphore>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace fs = std::filesystem;

namespace {

constexpr std::size_t k_block = 1024 * 1024;
constexpr std::size_t k_threads = 4;
constexpr std::ptrdiff_t k_in_flight = 8;

struct block {
    std::string_view bytes;  // of the file
    std::string compressed{};
    pid_t pid = 0;
    std::string error{};
};

struct job {
    std::string path;
    std::string contents;
    std::vector<block> blocks{};
};

std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    std::string all{std::istreambuf_iterator<char>(in), {}};
    if (!in) throw std::runtime_error("cannot read " + path);
    return all;
}

// What gzip -d would make of it.
std::string decompress(const std::string& bytes, std::size_t expected) {
    std::string out(expected + 1, '\0');  // room to notice what is too long
    z_stream z{};
    if (inflateInit2(&z, 15 + 16) != Z_OK) return {};
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    z.avail_in = static_cast<uInt>(bytes.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    const bool whole = inflate(&z, Z_FINISH) == Z_STREAM_END && z.avail_in == 0;
    out.resize(whole ? z.total_out : 0);
    inflateEnd(&z);
    return out;
}

// On one of the threads: what a call has come to.
void take(block& b, const std::exception_ptr& failed, const cleanfork::call_result& r) {
    try {
        if (failed) std::rethrow_exception(failed);
        b.pid = r.pid;
        if (!r.status.success())
            throw std::runtime_error(r.status.to_string() + (r.error.empty() ? "" : ": ") +
                                     r.error);
        b.compressed = r.result();
        if (decompress(b.compressed, b.bytes.size()) != b.bytes)
            throw std::runtime_error("it decompresses to something else");
    } catch (const std::exception& e) {
        b.error = e.what();
    }
}

// One call for each block, so many at a time; the payload goes into a memfd that
// the child maps, and the answer comes back in another.
void compress_all(const cleanfork::client& client, std::vector<job>& jobs) {
    std::counting_semaphore<k_in_flight> places(k_in_flight);
    for (job& j : jobs)
        for (block& b : j.blocks) {
            places.acquire();
            client.async_run_call(
                "worker", "compress", b.bytes, {.result = true},
                [&b, &places](std::exception_ptr failed, const cleanfork::call_result& r) {
                    take(b, failed, r);
                    places.release();
                });
        }
    for (std::ptrdiff_t i = 0; i < k_in_flight; ++i) places.acquire();
}

job make_job(const std::string& path) {
    job j{path, read_file(path)};
    std::string_view rest = j.contents;
    do {  // an empty file is one empty block
        j.blocks.push_back({rest.substr(0, k_block)});
        rest.remove_prefix(std::min(rest.size(), k_block));
    } while (!rest.empty());
    return j;
}

// Members of gzip after one another are a gzip file (RFC 1952).
bool write_out(const job& j, const fs::path& directory) {
    for (const block& b : j.blocks)
        if (!b.error.empty()) {
            std::cerr << j.path << ": " << b.error << '\n';
            return false;
        }
    const fs::path out = directory / (fs::path(j.path).filename().string() + ".gz");
    if (fs::exists(out)) throw std::runtime_error(out.string() + " is there already");
    std::ofstream file(out, std::ios::binary);
    std::size_t size = 0;
    for (const block& b : j.blocks) {
        file << b.compressed;
        size += b.compressed.size();
    }
    if (!file.flush()) throw std::runtime_error("cannot write " + out.string());
    std::printf("%10zu -> %9zu bytes, blocks: %2zu  %s\n", j.contents.size(), size, j.blocks.size(),
                out.c_str());
    return true;
}

std::size_t threads_here() {
    const fs::directory_iterator tasks("/proc/self/task");
    return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

int run(const fs::path& directory, const std::vector<std::string>& files) {
    // From here on this process has threads, and must not fork.
    boost::asio::thread_pool threads(k_threads);
    const cleanfork::client client = cleanfork::launch(threads.get_executor());
    cleanfork::template_options worker = cleanfork::template_options::self();
    worker.warm = 4;
    client.add_template("worker", worker);

    std::vector<job> jobs;
    jobs.reserve(files.size());  // the blocks point into them
    for (const std::string& f : files) jobs.push_back(make_job(f));
    compress_all(client, jobs);

    std::set<pid_t> children;
    bool good = true;
    for (const job& j : jobs) {
        good &= write_out(j, directory);
        for (const block& b : j.blocks) children.insert(b.pid);
    }
    const cleanfork::template_info info = client.template_info("worker");
    std::printf("%zu children of a template with %u thread, for a program with %zu threads\n",
                children.size(), info.current() ? info.current()->threads : 0, threads_here());
    threads.join();
    return good ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    cleanfork::template_main(argc, argv);  // does not return in the template
    if (argc < 3) {
        std::cerr << "usage: compress_worker DIRECTORY FILE...\n";
        return 2;
    }
    try {
        return run(argv[1], {argv + 2, argv + argc});
    } catch (const std::exception& e) {
        std::cerr << "compress_worker: " << e.what() << '\n';
        return 1;
    }
}
