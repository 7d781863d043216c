#include <cleanfork/templates.hpp>
#include <fstream>
#include <sstream>

namespace cleanfork {

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
