#include "client/src/requests/rotated_files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::detail {

namespace {

constexpr std::size_t k_max_log_name = ipc::k_max_name - 5;  // its number comes on top

struct place {
    std::string directory, name;
};

place place_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {".", path};
    return {path.substr(0, std::max<std::size_t>(slash, 1)), path.substr(slash + 1)};
}

failure invalid(const stdio::rotated_file& file, std::string why) {
    return ipc::fail(step::request, EINVAL, file.path, std::move(why));
}

failure refusal(const stdio::rotated_file& file, int target, const std::string& name) {
    if (target == 0) return invalid(file, "only output can go to a file that is rotated");
    if (file.size < ipc::k_least_log_size)
        return invalid(file, "a file is rotated at " + std::to_string(ipc::k_least_log_size) +
                                 " bytes at the least");
    if (file.count > ipc::k_max_log_count)
        return invalid(file,
                       "at most " + std::to_string(ipc::k_max_log_count) + " old files are kept");
    if (name.size() > k_max_log_name)
        return ipc::fail(step::request, ENAMETOOLONG, file.path,
                         "with its number the name would be too long");
    return {};
}

// The log of the request that goes to the file `about` is of.
v1::RotatedLog* same_file(v1::SpawnRequest& request, const descriptor_list& descriptors,
                          const struct stat& about) {
    for (v1::RotatedLog& log : *request.mutable_logs()) {
        struct stat other {};
        const int directory = descriptors.numbers()[log.directory_descriptor() - 1];
        if (::fstatat(directory, log.name().c_str(), &other, 0) == 0 &&
            other.st_dev == about.st_dev && other.st_ino == about.st_ino)
            return &log;
    }
    return nullptr;
}

}  // namespace

result<void> add_log(const stdio::rotated_file& file, int target, v1::SpawnRequest& request,
                     descriptor_list& descriptors) {
    const place at = place_of(file.path);
    if (failure why = refusal(file, target, at.name); why.step != step::none) return why;
    const auto failed = [&](int error) {
        return ipc::fail(step::request, error, file.path,
                         "could not open the file for the child's output");
    };
    unique_fd directory(::open(at.directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!directory) return failed(errno);
    // A FIFO without a reader would be waited for.
    const unique_fd opened(
        ::openat(directory.get(), at.name.c_str(),
                 O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0666));
    if (!opened) return failed(errno);
    struct stat about {};
    if (::fstat(opened.get(), &about) != 0) return failed(errno);
    if (!S_ISREG(about.st_mode)) return invalid(file, "only a regular file can be rotated");
    if (v1::RotatedLog* log = same_file(request, descriptors, about)) {
        log->add_targets(target);
        return {};
    }
    v1::RotatedLog& log = *request.add_logs();
    log.add_targets(target);
    log.set_directory_descriptor(
        descriptors.add_owned(std::move(directory), v1::DESCRIPTOR_PURPOSE_CWD));
    log.set_name(at.name);
    log.set_size(file.size);
    log.set_count(file.count);
    log.set_umask(ipc::own_umask());
    return {};
}

}  // namespace cleanfork::detail
