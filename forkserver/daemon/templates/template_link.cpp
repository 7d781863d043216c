#include "forkserver/daemon/templates/template_link.hpp"

#include <boost/system/system_error.hpp>
#include <cerrno>
#include <cstring>

#include "forkserver/template/order.hpp"

namespace cleanfork::daemon {

namespace {

// After so many the others get their turn.
constexpr int k_reports_a_turn = 64;
constexpr unsigned k_usual_in_a_row = 2;  // of one child: that it runs, and that it has ended
constexpr int k_most_held = 4096;
constexpr std::size_t k_most_text = 1000;  // as forkserver/template/notes.cpp has it
constexpr std::chrono::milliseconds k_before_reading_again{20};

std::string_view bytes_of(const templates::order& o) {
    return {reinterpret_cast<const char*>(&o), sizeof o};
}

std::optional<template_report> understand_event(const ipc::received& packet) {
    template_report r;
    r.sender = packet.sender;
    templates::child_event& e = r.event.emplace();
    std::string_view left = packet.body;
    const auto take = [&left](auto& part) {
        if (left.size() < sizeof part) return false;
        std::memcpy(&part, left.data(), sizeof part);
        left.remove_prefix(sizeof part);
        return true;
    };
    if (!take(e) || e.zero != 0) return std::nullopt;
    if (e.kind == templates::report_kind::ended || e.kind == templates::report_kind::unused) {
        if (!take(r.usage)) return std::nullopt;
        r.error = left.substr(0, k_most_text);
    }
    return r;
}

std::optional<template_report> understand(ipc::received&& packet) {
    if (packet.body.front() != '\0') {
        auto m = ipc::decode_template_message(std::move(packet));
        return m ? std::optional(template_report{std::move(*m)}) : std::nullopt;
    }
    auto r = understand_event(packet);
    if (r) r->descriptors = std::move(packet.descriptors);
    return r;
}

}  // namespace

template_link::template_link(event_loop& io, unique_fd socket, template_link_owner& owner)
    : io_(io), socket_(io, "template"), again_(io, "template", [this] { await(); }), owner_(owner) {
    if (const int e = socket_.take(socket))
        throw boost::system::system_error(e, boost::system::system_category(), "control socket");
    await();
}

// What somebody may have put into its queue is not closed here.
template_link::~template_link() {
    unique_fd socket = socket_.release();
    if (ipc::end_connection(socket.get())) return;
    std::vector<unique_fd> full;
    full.push_back(std::move(socket));
    owner_.dispose(std::move(full));
}

int template_link::order_fork(sequence_number sequence, int channel, request r,
                              const fork_facts& facts) {
    const templates::order o{
        facts.has_threads ? templates::order_kind::judged_fork : templates::order_kind::fork,
        r == request::comes_later ? 1U : 0U, sequence.value(), facts.changed_signals};
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
    const templates::order o{templates::order_kind::kill, 0, sequence.value(), 0};
    (void)ipc::send_packet(socket_.fd(), bytes_of(o), {});
}

void template_link::await() {
    socket_.await([this] {
        turn done = turn::over;
        bounded(io_, "report of a template", [&] {
            done = take_reports(socket_.reads_in_a_row() > k_usual_in_a_row ? k_reports_a_turn : 1);
        });
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
void template_link::take_report(ipc::received& packet) {
    std::optional<template_report> r;
    insist(io_, "report of a template", [&] {
        // Of one that was cut, out of descriptors most likely, the rest says whose it was.
        r = packet.status == ipc::receive_status::packet ? understand(std::move(packet))
                                                         : understand_event(packet);
    });
    if (r && packet.status == ipc::receive_status::malformed) r->cut = packet.error_number;
    if (r) {
        insist(io_, "report of a template", [&] { owner_.on_report(*r); });
        owner_.dispose(std::move(r->descriptors));
    }
    owner_.dispose(std::move(packet.descriptors));
}

// A socket that cannot be read now (ENOMEM) is not closed: what was told waits in it.
template_link::turn template_link::take_reports(int most) {
    for (int n = 0; n < most; ++n) {
        ipc::received packet = receiver_.receive(socket_.fd());
        switch (packet.status) {
            case ipc::receive_status::would_block: return turn::over;
            case ipc::receive_status::failed: return turn::must_wait;
            case ipc::receive_status::packet:
            case ipc::receive_status::malformed: take_report(packet); continue;
            case ipc::receive_status::closed: owner_.dispose(std::move(packet.descriptors)); break;
        }
        if (!closed_) closed_ = clock::now();
        return turn::closed;
    }
    return turn::over;
}

}  // namespace cleanfork::daemon
