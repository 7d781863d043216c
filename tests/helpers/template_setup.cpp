// A template whose initialization loads a library and leaves files open: TEMPLATE_LOAD is the
// library, TEMPLATE_OPEN words of KIND=PATH; see open_as().
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cleanfork/client.hpp>
#include <cleanfork/template.hpp>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

using cleanfork::call;

namespace {

void* library = nullptr;
std::map<std::string, int> files;  // by kind

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? value : "";
}

int open_as(const std::string& kind, const std::string& path) {
    if (kind == "memfd") return ::memfd_create("index", MFD_CLOEXEC);
    if (kind == "pipe") {
        int ends[2];
        return ::pipe2(ends, O_CLOEXEC) == 0 ? ends[1] : -1;
    }
    const int flags = kind == "directory" ? O_RDONLY | O_DIRECTORY : O_RDWR | O_CREAT;
    const int fd = ::open(path.c_str(), flags | (kind == "log" ? O_APPEND : O_CLOEXEC), 0600);
    if (kind == "read") ::lseek(fd, 2, SEEK_SET);
    if (kind == "flock") ::flock(fd, LOCK_EX);
    if (kind == "record") ::lockf(fd, F_LOCK, 0);
    if (kind == "closed") cleanfork::close_in_children(fd);
    return fd;
}

void load() {
    if (const std::string path = variable("TEMPLATE_LOAD"); !path.empty()) {
        library = ::dlopen(path.c_str(), RTLD_NOW);
        if (library == nullptr) throw std::runtime_error(::dlerror());
    }
    std::istringstream words(variable("TEMPLATE_OPEN"));
    for (std::string word; words >> word;) {
        const std::size_t equals = word.find('=');
        const std::string kind = word.substr(0, equals);
        files[kind] = open_as(kind, word.substr(equals + 1));
    }
}
const cleanfork::initialization initialize(load);

template <class Function>
Function* symbol(const char* name) {
    return reinterpret_cast<Function*>(::dlsym(library, name));
}

const cleanfork::entry entries[] = {
    {"pool",
     [](call& c) {
         const long sum = symbol<long()>("pool_sum")();  // which starts them
         const int threads = symbol<int()>("pool_threads")();
         c.respond(std::to_string(sum) + " by " + std::to_string(threads));
         return 0;
     }},
    {"read",  // five bytes of what `args[0]` has
     [](call& c) {
         char part[5];
         const ssize_t n = ::read(files.at(std::string(c.arguments().at(0))), part, sizeof part);
         c.respond(n < 0 ? "errno " + std::to_string(errno)
                         : std::string(part, static_cast<std::size_t>(n)));
         return 0;
     }},
    {"append",
     [](call& c) {
         const std::string line(c.payload());
         const auto n = ::write(files.at("log"), line.data(), line.size());
         return n == static_cast<ssize_t>(line.size()) ? 0 : 1;
     }},
    {"numbers",  // of the files, of the descriptors of the call, and of one that is opened
     [](call& c) {
         for (const auto& [kind, fd] : files) c.respond(kind + " " + std::to_string(fd) + "\n");
         for (const auto& [name, fd] : c.descriptors())
             c.respond(std::string(name) + " " + std::to_string(fd) + "\n");
         c.respond("opened " + std::to_string(::open("/dev/null", O_RDONLY)) + "\n");
         return 0;
     }},
    {"path",  // of the descriptor with this number
     [](call& c) {
         char path[256] = {};
         const std::string link = "/proc/self/fd/" + std::string(c.arguments().at(0));
         [[maybe_unused]] const ssize_t n = ::readlink(link.c_str(), path, sizeof path - 1);
         c.respond(path);
         return 0;
     }},
};

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1 && std::string(argv[1]) == "early") {
        // A library that was loaded before main() has threads already.
        load();
        const cleanfork::client c = cleanfork::attach(cleanfork::start_early());
        const auto r = c.run_call("self", "pool", {}, {.result = true});
        std::printf("%s\n", std::string(r.result()).c_str());
        return r.status.success() ? 0 : 1;
    }
    cleanfork::template_main(argc, argv);
    return 2;
}
