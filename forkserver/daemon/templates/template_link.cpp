#include "forkserver/daemon/templates/template_link.hpp"

#include <cerrno>

#include "forkserver/template/order.hpp"

namespace cleanfork::daemon {

namespace {

std::string_view bytes_of(const templates::order& o) {
    return {reinterpret_cast<const char*>(&o), sizeof o};
}

}  // namespace

template_link::template_link(boost::asio::io_context& io, unique_fd socket,
                             template_link_owner& owner)
    : socket_(io, socket.release()), owner_(owner) {
    await();
}

int template_link::order_fork(sequence_number sequence, int channel, request r, threads t) {
    const templates::order o{t == threads::judged_in_fork ? templates::order_kind::judged_fork
                                                          : templates::order_kind::fork,
                             r == request::comes_later ? 1U : 0U, sequence.value()};
    switch (ipc::send_packet(socket_.native_handle(), bytes_of(o), {&channel, 1})) {
        case ipc::send_status::sent: return 0;
        case ipc::send_status::closed: return EPIPE;
        case ipc::send_status::would_block:
        case ipc::send_status::failed: break;
    }
    return errno;
}

void template_link::order_kill(sequence_number sequence) {
    if (closed_) return;
    const templates::order o{templates::order_kind::kill, 0, sequence.value()};
    (void)ipc::send_packet(socket_.native_handle(), bytes_of(o), {});
}

void template_link::await() {
    socket_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                       [this, here = std::weak_ptr<char>(here_)](boost::system::error_code ec) {
                           if (ec || here.expired()) return;
                           if (drain()) return await();
                           owner_.on_link_closed();
                       });
}

bool template_link::drain() {
    for (;;) {
        ipc::received packet = receiver_.receive(socket_.native_handle());
        switch (packet.status) {
            case ipc::receive_status::would_block: return true;
            case ipc::receive_status::packet: break;
            // Out of descriptors, most likely: the report is lost, its child's end is not.
            case ipc::receive_status::malformed: continue;
            default:
                if (!closed_) closed_ = clock::now();
                return false;
        }
        auto m = ipc::decode_template_message(std::move(packet));
        if (m) owner_.on_report(std::move(*m));
    }
}

}  // namespace cleanfork::daemon
