#include "ipc/wire/message.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "ipc/base/fd.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::ipc {

namespace {

failure malformed(std::string detail) {
    return fail(step::protocol, EBADMSG, "packet", std::move(detail));
}

// A sealed memfd cannot be resized or rewritten while we parse it: without the
// seals a peer could shrink it and kill us with SIGBUS.
template <class Message>
result<void> parse_sealed(int fd, std::uint64_t stated, Message& out) {
    constexpr int k_needed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & k_needed) != k_needed)
        return malformed("the large body is not a sealed memfd");
    struct stat st {};
    if (::fstat(fd, &st) != 0) return fail(step::protocol, errno, "memfd");
    const auto size = static_cast<std::uint64_t>(st.st_size);
    if (size != stated || size == 0) return malformed("the large body is not of the stated size");
    if (size > k_max_body)
        return fail(step::protocol, EMSGSIZE, "packet", "the body is over 16 MiB");
    void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (at == MAP_FAILED) return fail(step::protocol, errno, "memfd");
    const bool parsed = out.ParseFromArray(at, static_cast<int>(size));
    ::munmap(at, size);
    if (!parsed) return malformed("the large body is not a message");
    if (out.has_large()) return malformed("a large body inside a large body");
    return {};
}

// From a process whose RLIMIT_FSIZE forbids it a memfd.
template <class Message>
result<void> parse_pipe(int fd, std::uint64_t stated, Message& out) {
    if (stated == 0 || stated > k_max_body)
        return fail(step::protocol, EMSGSIZE, "packet", "the body is over 16 MiB");
    const auto body = pipe_contents(fd, static_cast<std::size_t>(stated));
    if (!body) return malformed("the large body is not of the stated size");
    if (!out.ParseFromString(*body)) return malformed("the large body is not a message");
    if (out.has_large()) return malformed("a large body inside a large body");
    return {};
}

// Not by fstat(2): the file system of a file that somebody sent need not answer.
bool is_pipe(int fd) {
    return ::fcntl(fd, F_GETPIPE_SZ) > 0 &&
           read_link(AT_FDCWD, "/proc/self/fd/" + std::to_string(fd)).starts_with("pipe:");
}

template <class Message>
result<void> parse_body(int fd, std::uint64_t stated, Message& out) {
    if (is_pipe(fd)) return parse_pipe(fd, stated, out);
    return parse_sealed(fd, stated, out);
}

template <class Message>
result<void> parse(received& packet, Message& out) {
    std::vector<unique_fd>& descriptors = packet.descriptors;
    if (!out.ParseFromArray(packet.body.data(), static_cast<int>(packet.body.size())))
        return malformed("not a message");
    if (out.has_large()) {
        if (out.descriptors_size() < 1 || descriptors.empty() ||
            out.descriptors(0) != v1::DESCRIPTOR_PURPOSE_BODY)
            return malformed("a large message without its memfd");
        const std::uint64_t stated = out.large().size();
        const auto total = static_cast<std::size_t>(out.descriptors_size());
        out.Clear();
        if (auto r = parse_body(descriptors.front().get(), stated, out); !r) return r;
        descriptors.erase(descriptors.begin());
        if (static_cast<std::size_t>(out.descriptors_size()) + 1 != total)
            return malformed("the large message states another number of descriptors");
    }
    if (static_cast<std::size_t>(out.descriptors_size()) != descriptors.size())
        return malformed("the number of descriptors is not the stated one");
    for (const int purpose : out.descriptors())
        if (purpose == v1::DESCRIPTOR_PURPOSE_UNSPECIFIED || purpose == v1::DESCRIPTOR_PURPOSE_BODY)
            return malformed("a descriptor without a purpose");
    return {};
}

template <class Message>
result<decoded<Message>> decode(received&& packet) {
    decoded<Message> d;
    // What throws before the descriptors are taken can be tried again.
    if (auto r = parse(packet, d.message); !r) return r.error();
    d.descriptors = std::move(packet.descriptors);
    d.sender = packet.sender;
    return d;
}

template <class Message>
result<encoded> encode_message(const Message& m) {
    const std::size_t size = m.ByteSizeLong();
    if (size > k_max_body)
        return fail(step::request, EMSGSIZE, "message", "the request is over 16 MiB");
    encoded e;
    if (size <= k_max_inline_body) {
        e.body = m.SerializeAsString();
        return e;
    }
    const std::string body = m.SerializeAsString();
    auto fd = sealed_memfd("cleanfork-body", body);
    if (!fd && fd.error().error_number == EFBIG) fd = filled_pipe(body);
    if (!fd) return fd.error();
    e.body_fd = std::move(*fd);
    Message outer;
    outer.set_request_id(m.request_id());
    outer.mutable_large()->set_size(size);
    outer.add_descriptors(v1::DESCRIPTOR_PURPOSE_BODY);
    for (const int purpose : m.descriptors())
        outer.add_descriptors(static_cast<v1::DescriptorPurpose>(purpose));
    e.body = outer.SerializeAsString();
    return e;
}

}  // namespace

result<encoded> encode(const v1::ClientMessage& m) { return encode_message(m); }
result<encoded> encode(const v1::ServerMessage& m) { return encode_message(m); }
result<encoded> encode(const v1::TemplateMessage& m) { return encode_message(m); }

send_status send(int socket, const encoded& e, std::span<const int> descriptors) noexcept {
    if (!e.body_fd) return send_packet(socket, e.body, descriptors);
    int all[k_max_descriptors];
    if (descriptors.size() + 1 > k_max_descriptors) {
        errno = EINVAL;
        return send_status::failed;
    }
    all[0] = e.body_fd.get();
    std::copy(descriptors.begin(), descriptors.end(), all + 1);
    return send_packet(socket, e.body, {all, descriptors.size() + 1});
}

result<decoded<v1::ClientMessage>> decode_client_message(received&& packet) {
    return decode<v1::ClientMessage>(std::move(packet));
}
result<decoded<v1::ServerMessage>> decode_server_message(received&& packet) {
    return decode<v1::ServerMessage>(std::move(packet));
}
result<decoded<v1::TemplateMessage>> decode_template_message(received&& packet) {
    return decode<v1::TemplateMessage>(std::move(packet));
}

namespace {

// So that a batch whose items all fail fits into its reply.
std::string clipped(const std::string& text) {
    if (text.size() <= k_max_failure_text) return text;
    return text.substr(0, k_max_failure_text - 3) + "...";
}

}  // namespace

void to_wire(const failure& f, v1::Failure& out) {
    out.set_step(static_cast<std::uint32_t>(f.step));
    out.set_error_number(f.error_number);
    out.set_object(clipped(f.object));
    out.set_detail(clipped(f.detail));
}
v1::Failure to_wire(const failure& f) {
    v1::Failure w;
    to_wire(f, w);
    return w;
}
failure from_wire(const v1::Failure& f) {
    return {static_cast<step>(f.step()), f.error_number(), f.object(), f.detail()};
}

}  // namespace cleanfork::ipc
