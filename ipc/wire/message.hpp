// Messages of the schema as packets: small ones inline, large ones in a sealed memfd.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <span>
#include <string>
#include <vector>

#include "ipc/wire/packet.hpp"

namespace cleanfork::ipc {

// A message ready to be sent. When `body_fd` is set it precedes the message's
// own descriptors in the packet.
struct encoded {
    std::string body;
    unique_fd body_fd;
};

// Encodes `m`, whose `descriptors` field says what the descriptors that will be
// sent with it are for. EMSGSIZE above k_max_body.
result<encoded> encode(const v1::ClientMessage& m);
result<encoded> encode(const v1::ServerMessage& m);
result<encoded> encode(const v1::TemplateMessage& m);

// send_packet() of an encoded message with its own (borrowed) descriptors.
send_status send(int socket, const encoded& e, std::span<const int> descriptors) noexcept;

// A received message with its own descriptors, in the order of its `descriptors` field.
template <class Message>
struct decoded {
    Message message;
    std::vector<unique_fd> descriptors;
    std::optional<packet_sender> sender{};
};

// Checks that the packet is a message, that it carries as many descriptors as
// it states and each has a purpose, and that a large body is sealed and of the
// stated size. Anything else is step::protocol; the packet keeps its descriptors then.
result<decoded<v1::ClientMessage>> decode_client_message(received&& packet);
result<decoded<v1::ServerMessage>> decode_server_message(received&& packet);
result<decoded<v1::TemplateMessage>> decode_template_message(received&& packet);

// Failures cross the wire as they are.
v1::Failure to_wire(const failure& f);
void to_wire(const failure& f, v1::Failure& out);
failure from_wire(const v1::Failure& f);

}  // namespace cleanfork::ipc
