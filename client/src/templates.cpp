// What <cleanfork/templates.hpp> has beside client's members.
#include <sys/stat.h>
#include <unistd.h>

#include <cleanfork/error.hpp>
#include <cleanfork/templates.hpp>
#include <fstream>
#include <sstream>

#include "ipc/base/sys.hpp"

namespace cleanfork {

std::string read_result(int fd) {
    struct stat about {};
    if (::fstat(fd, &about) != 0) throw spawn_error(ipc::fail(step::wait, errno, "result"));
    std::string bytes(static_cast<std::size_t>(about.st_size), '\0');
    for (std::size_t done = 0; done < bytes.size();) {
        const ssize_t n = ipc::retry([&] {
            return ::pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
        });
        if (n < 0) throw spawn_error(ipc::fail(step::wait, errno, "result"));
        if (n == 0) bytes.resize(done);  // it has become shorter
        done += static_cast<std::size_t>(n);
    }
    return bytes;
}

template_options template_options::self() {
    template_options o;
    o.own_program = true;
    o.process.argv0 = program_invocation_name;
    return o;
}

template_options template_options::derived(std::string base, std::string initializer,
                                           std::variant<std::string, stdio::descriptor> payload) {
    template_options o;
    o.from = std::move(base);
    o.initializer = std::move(initializer);
    o.initializer_payload = std::move(payload);
    return o;
}

std::string_view to_string(template_state s) noexcept {
    switch (s) {
        case template_state::starting: return "starting";
        case template_state::ready: return "ready";
        case template_state::refused: return "refused";
        case template_state::failed: return "failed";
        case template_state::draining: return "draining";
        case template_state::unknown: break;
    }
    return "unknown";
}

std::optional<process_memory> memory_of(pid_t pid) {
    if (pid <= 0) return std::nullopt;
    std::ifstream rollup("/proc/" + std::to_string(pid) + "/smaps_rollup");
    process_memory memory;
    int found = 0;
    for (std::string line; std::getline(rollup, line);) {
        std::istringstream fields(line);
        std::string name;
        std::uint64_t kib = 0;
        if (!(fields >> name >> kib)) continue;
        std::uint64_t* const into = name == "Rss:"             ? &memory.rss_kib
                                    : name == "Pss:"           ? &memory.pss_kib
                                    : name == "Private_Dirty:" ? &memory.private_dirty_kib
                                                               : nullptr;
        if (into == nullptr) continue;
        *into = kib;
        ++found;
    }
    if (found != 3) return std::nullopt;
    return memory;
}

std::optional<process_memory> generation_info::memory() const { return memory_of(pid); }

std::optional<process_memory> generation_info::warm_memory() const {
    std::optional<process_memory> all;
    for (const pid_t warm : warm_pids) {
        const auto one = memory_of(warm);
        if (!one) continue;
        if (!all) all.emplace();
        all->rss_kib += one->rss_kib;
        all->pss_kib += one->pss_kib;
        all->private_dirty_kib += one->private_dirty_kib;
    }
    return all;
}

}  // namespace cleanfork
