#include "forkserver/daemon/configuration.hpp"

#include <sys/resource.h>

namespace cleanfork::daemon {

quotas fitted_to_process(const quotas& set) {
    rlimit descriptors{};
    ::getrlimit(RLIMIT_NOFILE, &descriptors);
    return fitted(set, descriptors.rlim_cur, memory_limit());
}

void configuration::begin() {
    if (options_.file.empty()) return;
    log_.info("config_loaded",
              {{"file", options_.file}, {"templates", std::uint64_t{now_.templates.size()}}});
    server_.start_templates(now_.templates);
}

void configuration::reload() {
    if (options_.file.empty())
        return log_.info("signal_ignored", {{"signal", "HUP"}, {"why", "there is no --config"}});
    auto read = read_options(options_);
    if (!read) {
        for (const std::string& line : read.error().lines)
            log_.error("config_refused", {{"file", options_.file}, {"why", line}});
        return;
    }
    if (read->socket != now_.socket)
        log_.warning("config_needs_restart", {{"file", options_.file}, {"key", "socket"}});
    now_ = std::move(*read);
    log_.set_least(now_.least);
    server_.set_quotas(fitted_to_process(now_.most));
    begin();
}

}  // namespace cleanfork::daemon
