#include "ipc/base/find_daemon.hpp"

#include <dlfcn.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <vector>

#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

namespace {

constexpr const char* k_name = "cleanforkd";

bool is_program(const std::string& path) {
    struct stat st {};
    return ::stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode) &&
           ::access(path.c_str(), X_OK) == 0;
}

std::string directory_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::vector<std::string> candidates() {
    std::vector<std::string> all;
    char self[PATH_MAX];
    if (const ssize_t n = ::readlink("/proc/self/exe", self, sizeof self); n > 0)
        all.push_back(directory_of({self, static_cast<std::size_t>(n)}) + "/" + k_name);
    Dl_info here{};
    // In a program that holds the static library this is the program itself.
    if (::dladdr(reinterpret_cast<const void*>(&find_daemon), &here) != 0 &&
        here.dli_fname != nullptr) {
        char real[PATH_MAX];
        if (::realpath(here.dli_fname, real) != nullptr) {
            all.push_back(directory_of(real) + "/" + k_name);
            all.push_back(directory_of(directory_of(real)) + "/bin/" + k_name);
        }
    }
    all.push_back(std::string(CLEANFORK_INSTALL_BINDIR) + "/" + k_name);
    // A program with more privileges than its user does not trust his PATH.
    if (const char* path = ::secure_getenv("PATH")) {
        std::istringstream list(path);
        for (std::string directory; std::getline(list, directory, ':');)
            if (!directory.empty()) all.push_back(directory + "/" + k_name);
    }
    return all;
}

}  // namespace

result<std::string> find_daemon(const std::string& given) {
    const char* named = ::secure_getenv("CLEANFORK_DAEMON");
    const std::string only = !given.empty() ? given : named != nullptr ? named : "";
    if (!only.empty()) {
        if (is_program(only)) return only;
        return fail(step::launch, ENOENT, only,
                    given.empty() ? "CLEANFORK_DAEMON names no program"
                                  : "the option that names the daemon names no program");
    }
    std::string tried;
    for (const std::string& path : candidates()) {
        if (is_program(path)) return path;
        // A place can be named twice, by the program and by PATH.
        if ((tried + ", ").find(path + ", ") == std::string::npos)
            tried += (tried.empty() ? "" : ", ") + path;
    }
    return fail(step::launch, ENOENT, k_name,
                "not found; looked at " + tried +
                    "; install it, or name it in CLEANFORK_DAEMON or the options of launch");
}

}  // namespace cleanfork::ipc
