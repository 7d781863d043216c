#include "forkserver/daemon/templates/template_link.hpp"

#include <boost/system/system_error.hpp>
#include <cerrno>

#include "forkserver/template/order.hpp"

namespace cleanfork::daemon {

namespace {

// After so many the others get their turn.
constexpr int k_reports_a_turn = 64;
constexpr int k_most_held = 4096;
constexpr std::chrono::milliseconds k_before_reading_again{20};

std::string_view bytes_of(const templates::order& o) {
    return {reinterpret_cast<const char*>(&o), sizeof o};
}

}  // namespace

template_link::template_link(boost::asio::io_context& io, unique_fd socket,
                             template_link_owner& owner)
    : io_(io), socket_(io, "template"), again_(io, "template", [this] { await(); }), owner_(owner) {
    if (const int e = socket_.take(socket))
        throw boost::system::system_error(e, boost::system::system_category(), "control socket");
    await();
}

int template_link::order_fork(sequence_number sequence, int channel, request r, threads t) {
    const templates::order o{t == threads::judged_in_fork ? templates::order_kind::judged_fork
                                                          : templates::order_kind::fork,
                             r == request::comes_later ? 1U : 0U, sequence.value()};
    switch (ipc::send_packet(socket_.fd(), bytes_of(o), {&channel, 1})) {
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
    (void)ipc::send_packet(socket_.fd(), bytes_of(o), {});
}

void template_link::await() {
    socket_.await([this] {
        turn done = turn::over;
        bounded(io_, "report of a template", [&] { done = take_reports(k_reports_a_turn); });
        switch (done) {
            case turn::over: return await();
            case turn::must_wait: return again_.set_in(k_before_reading_again);
            case turn::closed: return owner_.on_link_closed();
        }
    });
}

bool template_link::drain() { return take_reports(k_reports_a_turn) != turn::closed; }

void template_link::drain_all() {
    // No more than a socket holds: somebody else may go on to send.
    if (is_open()) (void)take_reports(k_most_held);
}

// One that is lost would be an end that nobody is told: what throws for want of memory is tried
// once more.
void template_link::take_report(ipc::received packet) {
    std::optional<ipc::decoded<v1::TemplateMessage>> m;
    insist(io_, "report of a template", [&] {
        if (packet.status == ipc::receive_status::packet) {
            auto whole = ipc::decode_template_message(std::move(packet));
            if (whole) m.emplace(std::move(*whole));
            return;
        }
        // Out of descriptors, most likely: the rest of the report says whose it was.
        ipc::decoded<v1::TemplateMessage> cut;
        cut.sender = packet.sender;
        if (!packet.body.empty() &&
            cut.message.ParseFromArray(packet.body.data(), static_cast<int>(packet.body.size())))
            m.emplace(std::move(cut));
    });
    if (m) insist(io_, "report of a template", [&] { owner_.on_report(*m); });
}

// A socket that cannot be read now (ENOMEM) is not closed: what was told waits in it.
template_link::turn template_link::take_reports(int most) {
    for (int n = 0; n < most; ++n) {
        ipc::received packet = receiver_.receive(socket_.fd());
        switch (packet.status) {
            case ipc::receive_status::would_block: return turn::over;
            case ipc::receive_status::failed: return turn::must_wait;
            case ipc::receive_status::packet:
            case ipc::receive_status::malformed: take_report(std::move(packet)); continue;
            case ipc::receive_status::closed: break;
        }
        if (!closed_) closed_ = clock::now();
        return turn::closed;
    }
    return turn::over;
}

}  // namespace cleanfork::daemon
