#include "client/src/requests/leased_call.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

#include "client/src/connection/child_state.hpp"
#include "client/src/connection/convert.hpp"
#include "client/src/requests/blocking_call.hpp"
#include "client/src/requests/spawn_requests.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/defaults.hpp"
#include "ipc/wire/lease.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::detail {

namespace {

// A child that waits has its limits already: numbers above may be too high for it.
constexpr int k_most_target = 255;

bool limits_descriptors(const google::protobuf::RepeatedPtrField<v1::Rlimit>& limits) {
    return std::any_of(limits.begin(), limits.end(), [](const v1::Rlimit& l) {
        return l.resource() == std::uint32_t{RLIMIT_NOFILE} + 1;
    });
}

// Into one packet, with all that refers to it.
bool is_small(const v1::CallTarget& c) {
    constexpr std::size_t k_of_each = 32;
    std::size_t size = c.payload().size();
    for (const std::string& a : c.arguments()) size += a.size() + k_of_each;
    return size <= ipc::k_max_inline_body / 2;
}

// What needs a descriptor of the call before its entry, or holds what is another's while the child
// waits, is for the forkserver.
bool can_wait(const v1::SpawnRequest& r) {
    if (!r.has_call() || !is_small(r.call()) || r.listen_descriptors_size() != 0 ||
        r.has_cwd_descriptor() || r.has_cgroup_descriptor() || r.has_controlling_terminal() ||
        r.logs_size() != 0 || r.has_restart() || r.process_group() == v1::PROCESS_GROUP_JOIN ||
        limits_descriptors(r.rlimits()) || limits_descriptors(r.caller().conduct().rlimits()))
        return false;
    return std::all_of(
        r.descriptors().begin(), r.descriptors().end(), [](const v1::DescriptorMapping& m) {
            return m.source_descriptor() != 0 && m.target() >= 0 && m.target() <= k_most_target;
        });
}

int index_of(std::uint32_t place) { return static_cast<int>(place) - 1; }

ipc::lease_content content_of(const v1::SpawnRequest& r, bool answer) {
    const v1::CallTarget& call = r.call();
    ipc::lease_content c{.entry = call.entry(),
                         .payload = call.payload(),
                         .arguments = {call.arguments().begin(), call.arguments().end()},
                         .moves = {},
                         .payload_descriptor = index_of(call.payload_descriptor()),
                         .result_descriptor = index_of(call.result_descriptor()),
                         .tells_answer = answer};
    for (const v1::DescriptorMapping& m : r.descriptors())
        c.moves.push_back({m.name(), index_of(m.source_descriptor()), m.target()});
    return c;
}

}  // namespace

std::string kind_of(const v1::SpawnRequest& r) {
    if (!can_wait(r)) return {};
    v1::SpawnRequest kind(r);
    kind.clear_descriptors();
    kind.clear_queue_timeout_ns();
    kind.clear_reply_hold_us();
    kind.mutable_call()->Clear();
    kind.mutable_call()->set_template_name(r.call().template_name());
    kind.mutable_call()->set_lease(true);
    return kind.SerializeAsString();
}

// ---- a call ----------------------------------------------------------------

std::optional<lease> send_to_lease(connection& c, const std::string& kind, const outgoing& m,
                                   bool answer) {
    if (kind.empty()) return std::nullopt;
    auto l = c.take_lease(kind);
    if (!l) return std::nullopt;
    const std::string packet = ipc::pack_lease(content_of(m.spawn(), answer));
    if (packet.size() > ipc::k_max_inline_body) return std::nullopt;
    l->child->called();
    std::span<const int> numbers = m.descriptors.numbers();
    if (m.spawn().call().answer_descriptor() != 0) numbers = numbers.first(numbers.size() - 1);
    // One that was taken back, or has ended: the next may be there still.
    while (ipc::send_packet(l->channel.get(), packet, numbers) != ipc::send_status::sent) {
        l = c.take_lease(kind);
        if (!l) break;
        l->child->called();
    }
    return l;
}

namespace {

// What has come, at most so much; empty: nothing, or the end.
std::string read_words(int pipe) {
    char bytes[sizeof(ipc::lease_word) + ipc::k_max_lease_text];
    const ssize_t n = ipc::retry([&] { return ::read(pipe, bytes, sizeof bytes); });
    return {bytes, n > 0 ? static_cast<std::size_t>(n) : 0};
}

}  // namespace

lease_begin await_begin(const lease& l, const deadline& d) {
    const deadline own = steady::now() + ipc::k_default_call_timeout;
    const bool own_first = !d || *own < *d;
    pollfd p{l.words.get(), POLLIN, 0};
    if (block_on(p, own_first ? own : d) != blocked::ready) {
        (void)l.child->process().signal(SIGKILL);
        return own_first ? lease_begin::lost : lease_begin::timed_out;
    }
    return had_begun(l) ? lease_begin::begins : lease_begin::lost;
}

bool had_begun(const lease& l) {
    const std::string bytes = read_words(l.words.get());
    std::string_view left = bytes;
    const auto word = ipc::take_lease_word(left);
    if (!word || word->word.kind != ipc::lease_word_kind::begins) return false;
    l.child->heard(left);
    return true;
}

// ---- leases ----------------------------------------------------------------

namespace {

class lease_operation final : public operation {
public:
    lease_operation(std::string kind, unique_fd words)
        : kind_(std::move(kind)), words_(std::move(words)) {}

    void finish(connection& c, result<reply>&& r) override {
        if (r && r->message.spawn().has_spawned())
            granted(c, r->message.spawn().spawned(), r->descriptors);
        else
            c.lease_refused(kind_);
    }

private:
    void granted(connection& c, const v1::Spawned& s, std::vector<unique_fd>& descriptors) {
        const auto take = [&](std::uint32_t place) {
            return place >= 1 && place <= descriptors.size() ? std::move(descriptors[place - 1])
                                                             : unique_fd();
        };
        unique_fd pidfd = take(s.pidfd_descriptor());
        unique_fd channel = take(s.lease_descriptor());
        // It was taken back before it was told: its end is told as any other.
        if (s.child() == 0 || !pidfd || !channel) return c.lease_refused(kind_);
        const ipc::child_id id(s.child());
        auto child = std::make_shared<child_state>(c.shared_from_this(), id,
                                                   ipc::process_ref(s.pid(), std::move(pidfd)),
                                                   child_traits{.tree = tree_of(s.tree())});
        c.expect_exit(id, child);
        c.lease_granted(kind_, {std::move(child), std::move(channel), std::move(words_)});
    }

    const std::string kind_;
    unique_fd words_;
};

bool ask_for_lease(connection& c, const std::string& kind, outgoing& m) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return false;
    unique_fd words(ends[0]), for_child(ends[1]);
    v1::SpawnRequest& r = *m->mutable_spawn();
    if (ipc::set_nonblocking(words.get()) != 0 || !r.ParseFromString(kind)) return false;
    r.mutable_call()->set_answer_descriptor(
        m.descriptors.add_owned(std::move(for_child), v1::DESCRIPTOR_PURPOSE_CHILD));
    m.follows_caller = true;  // the kind has it
    return bool(
        c.submit(c.next_id(), m, std::make_shared<lease_operation>(kind, std::move(words))));
}

void add_use(const child_state& used, const v1::CallTarget& call, outgoing& m) {
    v1::LeaseUse& use = *m->add_leases_used();
    use.set_child(used.id().value());
    use.mutable_call()->set_template_name(call.template_name());
    use.mutable_call()->set_entry(call.entry());
    *use.mutable_call()->mutable_arguments() = call.arguments();
}

}  // namespace

void refill(connection& c, const std::string& kind, const outgoing& call, const child_state* used) {
    std::size_t missing = kind.empty() ? 0 : c.leases_to_ask_for(kind);
    if (missing == 0 && used != nullptr) {
        outgoing m;
        m->mutable_acknowledge();
        add_use(*used, call.spawn().call(), m);
        (void)c.submit(c.next_id(), m, nullptr);
    }
    for (; missing != 0; --missing, used = nullptr) {
        outgoing m;
        if (used != nullptr) add_use(*used, call.spawn().call(), m);
        if (!ask_for_lease(c, kind, m)) c.lease_refused(kind);
    }
}

result<process> call_entry(const std::shared_ptr<connection>& c, const timeout& t,
                           const entry_call& call) {
    if (!c) return not_connected();
    const deadline d = deadline_after(t);
    for (bool may_lease = call.options.leased;; may_lease = false) {
        outgoing m;
        auto request = spawn_request::fill(m, d, call);
        if (!request) return request.error();
        if (auto r = c->follow(m); !r) return r.error();
        const std::string kind = call.options.leased ? kind_of(m.spawn()) : std::string();
        auto l = may_lease ? send_to_lease(*c, kind, m, call.options.answer) : std::nullopt;
        if (!l) {
            auto p = await_reply(*c, m, std::move(*request), d);
            // One that fails tells of no next one; but a lease that it has used up is replaced.
            if (p || !may_lease) refill(*c, kind, m, nullptr);
            return p;
        }
        m.descriptors.close_owned();
        const lease_begin begin = await_begin(*l, d);
        if (begin == lease_begin::timed_out) return spawn_request::expired();
        if (begin == lease_begin::lost) continue;
        refill(*c, kind, m, l->child.get());
        if (call.options.answer) l->child->hear(std::move(l->words));
        return connection::make_process(std::move(l->child), std::move(request->ends));
    }
}

}  // namespace cleanfork::detail
