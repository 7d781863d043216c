// Any packet, with any descriptors, is a message or a protocol error; what is a
// message is the same after another trip; no descriptor is lost.
#include <fcntl.h>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"
#include "ipc/wire/message.hpp"
#include "tests/fuzz/seeds.hpp"

using namespace cleanfork;
using namespace cleanfork::fuzz;

namespace {

// How the first byte of the input is read.
constexpr unsigned k_descriptors = 7;  // their number
constexpr unsigned k_in_memfd = 8;     // the rest is a large body
constexpr unsigned k_from_server = 16;
constexpr unsigned k_from_template = 64;

struct wire {
    ipc::socket_pair pair;
    ipc::receiver reader;
    unique_fd null{::open("/dev/null", O_RDONLY | O_CLOEXEC)};

    ipc::received through(std::string_view body, const std::vector<int>& fds) {
        const auto sent = ipc::send_packet(pair.first.get(), body, fds);
        require(sent == ipc::send_status::sent, "a packet within the limits is sent");
        return reader.receive(pair.second.get());
    }
};

wire& the_wire() {
    static wire w{*ipc::seqpacket_pair(), {}};
    return w;
}

std::string outer_of(std::size_t size, std::size_t more) {
    v1::ClientMessage m;  // field for field the same as a ServerMessage here
    m.set_request_id(1);
    m.mutable_large()->set_size(size);
    m.add_descriptors(v1::DESCRIPTOR_PURPOSE_BODY);
    for (std::size_t i = 0; i < more; ++i) m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
    return m.SerializeAsString();
}

template <class Message>
void check(result<ipc::decoded<Message>> (*decode)(ipc::received&&), ipc::received packet) {
    auto first = decode(std::move(packet));
    if (!first) {
        require(first.error().step == step::protocol, "what is refused is a protocol error");
        return;
    }
    require(
        static_cast<std::size_t>(first->message.descriptors_size()) == first->descriptors.size(),
        "a message has the descriptors it states");
    const auto e = ipc::encode(first->message);
    if (!e) return;
    std::vector<int> fds;
    if (e->body_fd) fds.push_back(e->body_fd.get());
    for (const unique_fd& fd : first->descriptors) fds.push_back(fd.get());
    if (fds.size() > ipc::k_max_descriptors) return;
    const auto second = decode(the_wire().through(e->body, fds));
    require(second.has_value(), "what was encoded can be decoded");
    require(second->message.SerializeAsString() == first->message.SerializeAsString(),
            "a message is the same after another trip");
}

void run(unsigned how, std::string_view body) {
    wire& w = the_wire();
    std::vector<int> fds(how & k_descriptors, w.null.get());
    unique_fd memfd;
    std::string outer;
    if ((how & k_in_memfd) != 0) {
        outer = outer_of(body.size(), fds.size());
        memfd = *ipc::sealed_memfd("fuzz", body);
        fds.insert(fds.begin(), memfd.get());
        body = outer;
    }
    if (body.empty()) return;
    ipc::received packet = w.through(body, fds);
    if (packet.status != ipc::receive_status::packet) return;
    if ((how & k_from_server) != 0)
        check(&ipc::decode_server_message, std::move(packet));
    else if ((how & k_from_template) != 0)
        check(&ipc::decode_template_message, std::move(packet));
    else
        check(&ipc::decode_client_message, std::move(packet));
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
    std::vector<std::string> seeds;
    for (const v1::ClientMessage& m : messages()) {
        const auto fds = static_cast<char>(m.descriptors_size());
        seeds.push_back(fds + m.SerializeAsString());
        seeds.push_back(static_cast<char>(fds | static_cast<char>(k_in_memfd)) +
                        m.SerializeAsString());
    }
    v1::ServerMessage reply;
    reply.set_request_id(1);
    reply.mutable_exits()->add_exits()->set_code(3);
    seeds.push_back(static_cast<char>(k_from_server) + reply.SerializeAsString());
    for (const template_packet& p : template_packets())
        seeds.push_back(static_cast<char>(k_from_template | p.descriptors) + p.bytes);
    write_seeds(*argc, *argv, seeds);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0 || size > ipc::k_max_inline_body) return 0;
    the_wire();
    const std::size_t before = ipc::open_descriptor_count();
    run(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
    require(ipc::open_descriptor_count() == before, "no descriptor is lost");
    return 0;
}
