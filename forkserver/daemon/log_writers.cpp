#include "forkserver/daemon/log_writers.hpp"

#include <fcntl.h>
#include <unistd.h>

#include "forkserver/daemon/log_writer.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/defaults.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::size_t k_max_log_name = ipc::k_max_name - 5;  // its number comes on top

constexpr int k_most_logs = 3;  // one for each standard stream is already more than there is need

failure invalid(const char* why) { return ipc::fail(step::request, EINVAL, "logs", why); }

failure refusal(const queued_spawn& q, const v1::RotatedLog& log) {
    const std::uint32_t directory = log.directory_descriptor();
    if (directory == 0 || directory > q.descriptors->size() ||
        q.purposes.at(directory - 1) != v1::DESCRIPTOR_PURPOSE_CWD)
        return invalid("its directory did not come with the request");
    const std::string& name = log.name();
    if (name.empty() || name == "." || name == ".." || name.size() > k_max_log_name ||
        name.find('/') != std::string::npos || name.find('\0') != std::string::npos)
        return invalid("that is no name of a file");
    if (log.size() < ipc::k_least_log_size || log.count() > ipc::k_max_log_count)
        return invalid("its size is too small, or its count too high");
    if (log.targets().empty()) return invalid("it is for no descriptor");
    if (log.umask() > 0777) return invalid("a umask is at most 0777");
    return {};
}

// Which runs this same program, also when its file was replaced since.
// The file is opened with the caller's rights, as one that the caller opens itself.
v1::SpawnRequest writer_request(const v1::SpawnRequest& child, const v1::RotatedLog& log) {
    v1::SpawnRequest r;
    r.set_as_forkserver(child.as_forkserver());
    if (child.caller().has_rights())
        *r.mutable_caller()->mutable_rights() = child.caller().rights();
    v1::ExecTarget& exec = *r.mutable_exec();
    exec.set_path("/proc/self/exe");
    for (const std::string& word :
         {std::string("cleanfork-log"), std::string(k_log_role), log.name(),
          std::to_string(log.size()), std::to_string(log.count())})
        exec.add_argv(word);
    r.mutable_environment()->set_clear(true);
    r.set_cwd_path("/");
    r.set_umask(log.umask());
    r.set_process_group(v1::PROCESS_GROUP_SESSION);
    r.mutable_lifetime()->set_keep(true);
    v1::Restart& restart = *r.mutable_restart();
    restart.set_policy(v1::RESTART_POLICY_ON_FAILURE);
    restart.set_delay_ms(static_cast<std::uint32_t>(ipc::k_default_restart_delay.count()));
    restart.set_max_delay_ms(static_cast<std::uint32_t>(ipc::k_default_restart_max_delay.count()));
    restart.set_burst(ipc::k_default_restart_burst);
    restart.set_interval_ms(static_cast<std::uint32_t>(ipc::k_default_restart_interval.count()));
    return r;
}

result<queued_spawn> writer_of(const queued_spawn& q, const v1::RotatedLog& log, unique_fd pipe,
                               const spawn::shared_disposal& disposal) {
    std::vector<unique_fd> descriptors;
    descriptors.push_back(std::move(pipe));
    descriptors.push_back(ipc::dup_fd(q.descriptors->at(log.directory_descriptor() - 1).get()));
    if (!descriptors.back()) return ipc::fail(step::prepare, errno, "logs");
    queued_spawn w;
    w.request = std::make_unique<v1::SpawnRequest>(writer_request(*q.request, log));
    std::uint32_t place = 0;
    for (const int target : {k_log_pipe, k_log_directory}) {
        v1::DescriptorMapping& m = *w.request->add_descriptors();
        m.set_source_descriptor(++place);
        m.set_target(target);
        w.purposes.push_back(v1::DESCRIPTOR_PURPOSE_CHILD);
    }
    w.descriptors = spawn::share(std::move(descriptors), disposal);
    w.base = q.base;
    return w;
}

// The descriptors of a batch are for all of it: each item that needs more has copies.
result<std::vector<unique_fd>> copies_of(const std::vector<unique_fd>& all) {
    std::vector<unique_fd> copies;
    for (const unique_fd& fd : all) {
        copies.push_back(ipc::dup_fd(fd.get()));
        if (!copies.back()) return ipc::fail(step::prepare, errno, "logs");
    }
    return copies;
}

}  // namespace

result<std::vector<queued_spawn>> take_log_writers(queued_spawn& q,
                                                   const spawn::shared_disposal& disposal) {
    std::vector<queued_spawn> writers;
    if (q.request->logs().empty()) return writers;
    if (q.request->logs_size() > k_most_logs) return invalid("there are too many");
    auto descriptors = copies_of(*q.descriptors);
    if (!descriptors) return descriptors.error();
    for (const v1::RotatedLog& log : q.request->logs()) {
        if (failure why = refusal(q, log); why.step != step::none) return why;
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) return ipc::fail(step::prepare, errno, "logs");
        unique_fd read_end(ends[0]), write_end(ends[1]);
        auto writer = writer_of(q, log, std::move(read_end), disposal);
        if (!writer) return writer.error();
        writers.push_back(std::move(*writer));
        descriptors->push_back(std::move(write_end));
        q.purposes.push_back(v1::DESCRIPTOR_PURPOSE_CHILD);
        for (const int target : log.targets()) {
            v1::DescriptorMapping& m = *q.request->add_descriptors();
            m.set_source_descriptor(static_cast<std::uint32_t>(descriptors->size()));
            m.set_target(target);
        }
    }
    q.descriptors = spawn::share(std::move(*descriptors), disposal);
    q.request->clear_logs();
    return writers;
}

}  // namespace cleanfork::daemon
