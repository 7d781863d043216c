// Ends with 0 when the process has exactly the descriptors that are named.
//
//     check_descriptors FD=INODE...
//
// Otherwise with 1: one too many; 2: one is missing; 3: it is another file;
// 4: it is close-on-exec; 9: /proc/self/fd cannot be read. FD=null stands for
// /dev/null. Nothing is written: every number may be taken by the map under test.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace {

struct wanted {
    int fd;
    unsigned long inode;
    bool null;
    bool seen;
};

constexpr int k_most = 256;
wanted map[k_most];
int count = 0;

bool parse(const char* text) {
    char* end = nullptr;
    if (count == k_most) return false;
    wanted& w = map[count++];
    w.fd = static_cast<int>(std::strtol(text, &end, 10));
    if (*end != '=') return false;
    w.null = std::strcmp(end + 1, "null") == 0;
    w.inode = w.null ? 0 : std::strtoul(end + 1, nullptr, 10);
    return true;
}

int check(int fd) {
    for (int i = 0; i < count; ++i) {
        wanted& w = map[i];
        if (w.fd != fd) continue;
        w.seen = true;
        struct stat st {};
        if (::fstat(fd, &st) != 0) return 2;
        const bool is_null = S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
        if (w.null ? !is_null : st.st_ino != w.inode) return 3;
        return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0 ? 4 : 0;
    }
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    for (int i = 1; i < argc; ++i)
        if (!parse(argv[i])) return 9;
    DIR* dir = ::opendir("/proc/self/fd");
    if (dir == nullptr) return 9;
    while (const dirent* e = ::readdir(dir)) {
        if (e->d_name[0] == '.') continue;
        const int fd = std::atoi(e->d_name);
        if (fd == ::dirfd(dir)) continue;
        if (const int code = check(fd)) return code;
    }
    for (int i = 0; i < count; ++i)
        if (!map[i].seen) return 2;
    return 0;
}
