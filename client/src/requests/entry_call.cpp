#include "client/src/requests/entry_call.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>

#include "client/src/requests/translate.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::detail {

namespace {

constexpr int k_first_target = 3;

failure not_of_a_call(std::string field) {
    return ipc::fail(step::request, EINVAL, std::move(field),
                     "a call runs an entry of a template and no program: its arguments are "
                     "call_options::args");
}

result<void> check_attributes(const spawn_options& o) {
    const auto* path = std::get_if<std::string>(&o.program);
    if (path == nullptr || !path->empty()) return not_of_a_call("program");
    if (!o.args.empty()) return not_of_a_call("args");
    if (o.argv0) return not_of_a_call("argv0");
    return {};
}

// A pipe would be read by the child to an end that may never come.
result<void> check_file(int fd) {
    struct stat about {};
    if (::fstat(fd, &about) != 0)
        return ipc::fail(step::request, errno, std::to_string(fd),
                         "the payload's descriptor is not open in the calling program");
    if (S_ISREG(about.st_mode)) return {};
    return ipc::fail(step::request, EINVAL, std::to_string(fd),
                     "a payload's descriptor is a memfd or a regular file; others are passed by "
                     "name, in call_options::fds");
}

result<void> add_payload(const payload& p, v1::CallTarget& target, descriptor_list& descriptors) {
    if (const auto* file = std::get_if<stdio::descriptor>(&p.content())) {
        if (auto r = check_file(file->fd); !r) return r;
        target.set_payload_descriptor(descriptors.add(file->fd, v1::DESCRIPTOR_PURPOSE_PAYLOAD));
        return {};
    }
    const auto bytes = std::get<std::string_view>(p.content());
    if (bytes.size() <= ipc::k_max_inline_payload) {
        if (!bytes.empty()) target.set_payload(bytes.data(), bytes.size());
        return {};
    }
    auto memfd = ipc::sealed_memfd("cleanfork-payload", bytes);
    if (!memfd)
        return ipc::fail(step::request, memfd.error().error_number, "payload",
                         "could not put the payload into a memfd");
    target.set_payload_descriptor(
        descriptors.add_owned(std::move(*memfd), v1::DESCRIPTOR_PURPOSE_PAYLOAD));
    return {};
}

void add_named_descriptors(const call_options& options, v1::SpawnRequest& request,
                           descriptor_list& descriptors) {
    std::set<int> taken;
    for (const fd_mapping& m : options.attributes.fds) taken.insert(m.target);
    // Those of socket activation are the first from 3.
    int target = k_first_target + static_cast<int>(options.attributes.listen_fds.size());
    for (const auto& [name, fd] : options.fds) {
        while (taken.contains(target)) ++target;
        v1::DescriptorMapping& m = *request.add_descriptors();
        m.set_source_descriptor(descriptors.add(fd, v1::DESCRIPTOR_PURPOSE_CHILD));
        m.set_target(target++);
        m.set_name(name);
    }
}

result<void> add_result(v1::CallTarget& target, descriptor_list& descriptors, parent_ends& ends) {
    ends.result.reset(::memfd_create("cleanfork-result", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!ends.result)
        return ipc::fail(step::request, errno, "memfd", "could not create one for the result");
    target.set_result_descriptor(descriptors.add(ends.result.get(), v1::DESCRIPTOR_PURPOSE_CHILD));
    return {};
}

// Nothing that the child ever tells makes it wait.
result<void> add_words(v1::CallTarget& target, descriptor_list& descriptors, parent_ends& ends) {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0)
        return ipc::fail(step::request, errno, "pipe", "could not create one for the answer");
    ends.words.reset(fds[0]);
    target.set_answer_descriptor(
        descriptors.add_owned(unique_fd(fds[1]), v1::DESCRIPTOR_PURPOSE_CHILD));
    ipc::set_nonblocking(ends.words.get());
    return {};
}

}  // namespace

result<void> translate_call(const entry_call& call, v1::SpawnRequest& request,
                            descriptor_list& descriptors, parent_ends& ends) {
    const call_options& options = call.options;
    if (auto r = check_attributes(options.attributes); !r) return r;
    v1::CallTarget& target = *request.mutable_call();
    target.set_template_name(call.template_name.data(), call.template_name.size());
    target.set_entry(call.entry.data(), call.entry.size());
    for (const std::string& argument : options.args) target.add_arguments(argument);
    add_named_descriptors(options, request, descriptors);
    if (options.result)
        if (auto r = add_result(target, descriptors, ends); !r) return r;
    if (auto r = translate_attributes(options.attributes, request, descriptors, ends); !r) return r;
    // It is the costly part.
    if (auto r = add_payload(call.payload, target, descriptors); !r) return r;
    // Last: see send_to_lease().
    if (options.answer)
        if (auto r = add_words(target, descriptors, ends); !r) return r;
    return descriptors.check();
}

void seal_result(const unique_fd& memfd) noexcept {
    constexpr int k_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    if (memfd) ::fcntl(memfd.get(), F_ADD_SEALS, k_seals);
}

}  // namespace cleanfork::detail
