#include "ipc/base/find_daemon.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <sstream>

#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

namespace {

constexpr const char* k_name = "cleanforkd";

// 0, or why it cannot be run.
int program_error(const std::string& path) {
    struct stat file {};
    if (::stat(path.c_str(), &file) != 0) return errno;
    if (!S_ISREG(file.st_mode)) return EACCES;  // as execve(2)
    return ::access(path.c_str(), X_OK) == 0 ? 0 : errno;
}

std::string directory_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
}

// In a program that holds the static library this is the program's own.
std::string library_directory() {
    Dl_info here{};
    char real[PATH_MAX];
    if (::dladdr(reinterpret_cast<const void*>(&find_daemon), &here) == 0 ||
        here.dli_fname == nullptr || ::realpath(here.dli_fname, real) == nullptr)
        return {};
    return directory_of(real);
}

daemon_search search_of_this_process() {
    // A program with more privileges than its user does not trust the user's PATH.
    const char* path = ::secure_getenv("PATH");
    return {.program = directory_of(read_link(AT_FDCWD, "/proc/self/exe")),
            .library = library_directory(),
            .installed = CLEANFORK_INSTALL_BINDIR,
            .path = path != nullptr ? path : ""};
}

}  // namespace

std::vector<std::string> daemon_places(const daemon_search& search) {
    std::vector<std::string> places;
    const auto add = [&places](const std::string& directory) {
        std::string place = directory + "/" + k_name;
        if (std::find(places.begin(), places.end(), place) == places.end())
            places.push_back(std::move(place));
    };
    for (const std::string& own : {search.program, search.library}) {
        if (own.empty()) continue;
        add(own);
        const std::string prefix = directory_of(own);
        add(prefix + "/bin");
        add(prefix + "/sbin");
    }
    if (!search.installed.empty()) add(search.installed);
    std::istringstream elements(search.path);
    for (std::string element; std::getline(elements, element, ':');)
        if (!element.empty()) add(element);
    return places;
}

result<std::string> find_daemon(const std::string& given) {
    const char* named = ::secure_getenv("CLEANFORK_DAEMON");
    const std::string only = !given.empty() ? given : named != nullptr ? named : "";
    if (!only.empty()) {
        const int error = program_error(only);
        if (error == 0) return only;
        return fail(step::launch, error, only,
                    given.empty() ? "CLEANFORK_DAEMON names no program"
                                  : "the option that names the daemon names no program");
    }
    std::string tried;
    for (const std::string& place : daemon_places(search_of_this_process())) {
        if (program_error(place) == 0) return place;
        tried += (tried.empty() ? "" : ", ") + place;
    }
    return fail(step::launch, ENOENT, k_name,
                "not found; looked at " + tried +
                    "; install it, or name it in CLEANFORK_DAEMON or the options of launch");
}

}  // namespace cleanfork::ipc
