// A whole server in this process, fed with packets of two sessions and of a template. It really
// spawns, but only /bin/true and /bin/sleep: whatever program a request names is replaced by one
// of them.
#include <fcntl.h>

#include <array>
#include <chrono>
#include <optional>

#include "tests/fuzz/served.hpp"

using namespace cleanfork;
using namespace cleanfork::fuzz;

namespace {

// The input is a row of commands: how, two bytes of length, and a packet.
constexpr unsigned k_descriptors = 3;  // their number
constexpr unsigned k_second = 4;       // of the second session
constexpr unsigned k_in_memfd = 8;     // the packet is a large body
constexpr unsigned k_wait = 16;        // then give children a moment to end
constexpr unsigned k_deaf = 32;        // and do not read what the server says
constexpr unsigned k_hang_up = 64;     // close; the next packet opens another session
constexpr unsigned k_template = 128;   // not of a session, but of the template "e"
constexpr std::size_t k_most_commands = 64;

void tame(v1::SpawnRequest& r) {
    r.clear_cgroup_path();
    if (!r.has_exec()) return;
    v1::ExecTarget& e = *r.mutable_exec();
    if (e.has_path() && e.path() != "/bin/sleep") e.set_path("/bin/true");
    if (e.has_search()) e.set_search("true");
}

// Ends before it is ready, or cannot be started.
void tame(v1::AddTemplateRequest& a) {
    tame(*a.mutable_process());
    if (!a.process().has_exec()) return;
    a.mutable_process()->mutable_exec()->set_path(a.warm() % 2 == 0 ? "/bin/true"
                                                                    : "/no/such/program");
}

// What is no message stays as it is.
std::string tamed(std::string packet) {
    v1::ClientMessage m;
    if (!m.ParseFromString(packet) || (!m.has_spawn() && !m.has_batch() && !m.has_add_template()))
        return packet;
    if (m.has_spawn()) tame(*m.mutable_spawn());
    if (m.has_batch())
        for (v1::SpawnRequest& r : *m.mutable_batch()->mutable_items()) tame(r);
    if (m.has_add_template()) tame(*m.mutable_add_template());
    return m.SerializeAsString();
}

class client_end {
public:
    explicit client_end(daemon::server& s) : server_(s) {}

    void send(const std::string& body, unsigned how) {
        if (!socket_) open();
        std::vector<int> fds(how & k_descriptors, null_.get());
        ipc::encoded e{body, {}};
        if ((how & k_in_memfd) != 0) {
            v1::ClientMessage outer;
            outer.set_request_id(1);
            outer.mutable_large()->set_size(body.size());
            outer.add_descriptors(v1::DESCRIPTOR_PURPOSE_BODY);
            for (std::size_t i = 0; i < fds.size(); ++i)
                outer.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
            e.body_fd = *ipc::sealed_memfd("fuzz", body);
            e.body = outer.SerializeAsString();
        }
        ipc::send(socket_.get(), e, fds);
        if ((how & k_hang_up) != 0) socket_.reset();
    }

    void read_all() {
        while (socket_) {
            ipc::received r = reader_.receive(socket_.get());
            if (r.status == ipc::receive_status::closed) socket_.reset();
            if (r.status != ipc::receive_status::packet) return;
            require(ipc::decode_server_message(std::move(r)).has_value(),
                    "what the server says is a message");
        }
    }

    void close() { socket_.reset(); }

private:
    void open() {
        auto pair = ipc::seqpacket_pair();
        server_.add_session(std::move(pair->second));
        socket_ = std::move(pair->first);
        ipc::send_packet(socket_.get(), messages()[0].SerializeAsString(), {});
    }

    daemon::server& server_;
    unique_fd socket_;
    unique_fd null_{::open("/dev/null", O_RDWR | O_CLOEXEC)};
    ipc::receiver reader_;
};

// Made when the input first speaks for it, and again after it hung up.
class template_end {
public:
    explicit template_end(daemon::server& s) : server_(s) {}

    void send(std::string packet, unsigned how) {
        if (!template_) {
            template_.emplace(server_);
            template_->tell(template_packets()[0].bytes, 0);
        }
        // Nobody else's pid, whatever the report says.
        if (packet.size() >= sizeof(templates::child_event) && packet.front() == '\0')
            packet.replace(offsetof(templates::child_event, pid), sizeof(pid_t),
                           bytes_of(template_->pid()));
        template_->tell(packet, how & k_descriptors);
        if ((how & k_hang_up) != 0) template_.reset();
    }

    void read_all() {
        if (template_) template_->read_all();
    }

private:
    daemon::server& server_;
    std::optional<false_template> template_;
};

void feed(daemon::event_loop& io, daemon::server& s, std::string_view input) {
    std::array<client_end, 2> clients{client_end(s), client_end(s)};
    template_end early(s);
    for (std::size_t n = 0; n < k_most_commands && input.size() >= 3; ++n) {
        const auto how = static_cast<unsigned char>(input[0]);
        const std::size_t size = std::min<std::size_t>(
            static_cast<unsigned char>(input[1]) + 256U * static_cast<unsigned char>(input[2]),
            input.size() - 3);
        client_end& c = clients[(how & k_second) != 0 ? 1 : 0];
        const std::string packet(input.substr(3, size));
        if ((how & k_template) != 0)
            early.send(packet, how);
        else
            c.send(tamed(packet), how);
        do_what_is_at_hand(io);
        early.read_all();
        if ((how & k_wait) != 0 && io.run_once(std::chrono::milliseconds(1)))
            do_what_is_at_hand(io);
        if ((how & k_deaf) == 0) c.read_all();
        input.remove_prefix(3 + size);
    }
    for (client_end& c : clients) c.close();
    do_what_is_at_hand(io);
}

std::string command(unsigned how, const template_packet& p) {
    std::string c;
    c += static_cast<char>(how | p.descriptors);
    c += static_cast<char>(p.bytes.size() & 255);
    c += static_cast<char>(p.bytes.size() >> 8);
    return c + p.bytes;
}

std::string command(unsigned how, const v1::ClientMessage& m) {
    return command(
        how, template_packet{m.SerializeAsString(), static_cast<unsigned>(m.descriptors_size())});
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
    const auto all = messages();
    std::vector<std::string> seeds(5);
    for (const v1::ClientMessage& m : all) seeds[0] += command(0, m);
    for (const v1::ClientMessage& m : all) seeds[1] += command(k_wait, m);
    for (const v1::ClientMessage& m : all) seeds[2] += command(k_second | k_deaf, m);
    for (const std::size_t i : {11U, 5U, 4U, 6U, 9U}) seeds[3] += command(k_wait, all[i]);
    for (const std::size_t i : {1U, 2U, 3U}) seeds[4] += command(k_hang_up, all[i]);
    for (const v1::ClientMessage& m : all) seeds.push_back(command(k_wait, m));
    // Calls of the early template, and what it may say to each.
    seeds.emplace_back();
    const template_packet ready = template_packets()[0];
    for (const template_packet& t : template_packets()) {
        seeds.back() += command(k_template | k_wait, t);
        for (const std::size_t i : {13U, 15U, 16U}) seeds.back() += command(0, all[i]);
        seeds.push_back(command(k_template | k_wait, ready) + command(0, all[15]) +
                        command(k_template, t) + command(0, all[16]) +
                        command(k_template | k_hang_up, t));
    }
    write_seeds(*argc, *argv, seeds);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    daemon::quotas quotas;
    quotas.queued_per_session = 8;  // small, so that quotas are met
    quotas.children_per_session = 16;
    quotas.unclaimed_statuses = 2;
    serve(quotas, [&](daemon::event_loop& io, daemon::server& s) {
        feed(io, s, {reinterpret_cast<const char*>(data), size});
    });
    return 0;
}
