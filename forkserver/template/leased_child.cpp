#include "forkserver/template/leased_child.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>

#include "forkserver/spawn/call_block.hpp"
#include "forkserver/spawn/child_descriptors.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::templates {

namespace {

struct come {
    std::span<const char> bytes;  // empty: nobody sends one
    bool is_whole = false;
    std::int64_t sender = -1;
    std::size_t descriptor_count = 0;
    std::array<int, ipc::k_max_descriptors> descriptors{};

    [[nodiscard]] int at(std::int32_t index) const noexcept {
        return index < 0 ? -1 : descriptors[static_cast<std::size_t>(index)];
    }
};

void take_control(msghdr& message, come& c) {
    for (cmsghdr* m = CMSG_FIRSTHDR(&message); m != nullptr; m = CMSG_NXTHDR(&message, m)) {
        if (m->cmsg_level != SOL_SOCKET) continue;
        if (m->cmsg_type == SCM_CREDENTIALS) {
            ucred who{};
            std::memcpy(&who, CMSG_DATA(m), sizeof who);
            c.sender = who.uid;
        }
        if (m->cmsg_type == SCM_RIGHTS) {
            c.descriptor_count =
                std::min((m->cmsg_len - CMSG_LEN(0)) / sizeof(int), c.descriptors.size());
            std::memcpy(c.descriptors.data(), CMSG_DATA(m), c.descriptor_count * sizeof(int));
        }
    }
}

void receive_call(const lease& l, come& c) {
    iovec part{l.room.data(), l.room.size()};
    alignas(cmsghdr) char
        control[CMSG_SPACE(ipc::k_max_descriptors * sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t n = ipc::retry([&] { return ::recvmsg(l.channel, &message, MSG_CMSG_CLOEXEC); });
    if (n <= 0) return;
    take_control(message, c);
    c.bytes = l.room.first(static_cast<std::size_t>(n));
    c.is_whole = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
}

// Who has lost rights since the lease was granted has lost it as well.
bool may_call(const lease& l, const come& c) noexcept {
    return l.owner < 0 || c.sender == l.owner || c.sender == 0;
}

// Of descriptors that are named, the number makes way for the template's files, as in settle_map().
void plan_moves(const ipc::lease_call& call, const come& c, std::span<const int> held,
                std::span<spawn::descriptor_move> moves) noexcept {
    int free = held.empty() ? 0 : held.back() + 1;
    const auto wanted = call.items<ipc::lease_move>(call.moves);
    for (const ipc::lease_move& m : wanted) free = std::max(free, m.target + 1);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        const ipc::lease_move& m = wanted[i];
        const bool gives_way =
            m.name.count != 0 && std::binary_search(held.begin(), held.end(), m.target);
        moves[i] = {c.at(m.source), gives_way ? free++ : m.target, false};
    }
}

// The standard streams of the lease stay where the call has none.
bool place_files(const ipc::lease_call& call, const come& c, lease& l, int& result,
                 std::span<spawn::descriptor_move> moves) {
    plan_moves(call, c, l.files->numbers(), moves);
    spawn::plan p;
    p.moves = moves.data();
    p.move_count = moves.size();
    spawn::settle_moves(p);
    for (int* fd : {&l.answer, &result}) {
        const auto moved = out_of_the_way(p, *fd);
        if (!moved) return false;
        *fd = *moved;
    }
    int index = -1;
    std::array<int, ipc::k_max_descriptors> targets{};
    for (std::size_t i = 0; i < moves.size(); ++i) targets[i] = moves[i].target;
    if (spawn::place_descriptors(p, index) != 0) return false;
    const int own[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, l.answer, result};
    if (spawn::close_unmapped(p, l.files->numbers(), own) != 0) return false;
    // It sorts the moves by number, and names are in the order of the call.
    for (std::size_t i = 0; i < moves.size(); ++i) moves[i].target = targets[i];
    return true;
}

bool fill(const ipc::lease_call& call, const come& c, lease& l, task& t) {
    t.entry = call.text(call.entry);
    t.payload = call.text(call.payload_bytes);
    t.result_fd = c.at(call.result);
    if (call.payload >= 0) {
        const auto mapped = map_payload(c.at(call.payload));
        if (!mapped) return false;
        t.payload = *mapped;
    }
    for (const ipc::lease_part& a : call.items<ipc::lease_part>(call.arguments))
        t.arguments.push_back(call.text(a));
    // All but the place of a result goes where the call wants it, or is closed.
    if (c.descriptor_count <= (call.result >= 0 ? 1U : 0U)) return ::close(l.channel) == 0;
    std::array<spawn::descriptor_move, ipc::k_max_descriptors> room{};
    const std::span moves(room.data(), call.moves.count);
    if (!place_files(call, c, l, t.result_fd, moves)) return false;
    const auto wanted = call.items<ipc::lease_move>(call.moves);
    for (std::size_t i = 0; i < wanted.size(); ++i)
        if (wanted[i].name.count != 0)
            t.descriptors.emplace_back(call.text(wanted[i].name), moves[i].target);
    return true;
}

}  // namespace

leased_call await_call(lease l) {
    leased_call taken;
    // A client that has gone is no reason to end by a word to it.
    struct sigaction before {
    }, ignored{};
    ignored.sa_handler = SIG_IGN;
    ::sigaction(SIGPIPE, &ignored, &before);
    come c;
    receive_call(l, c);
    if (c.bytes.empty()) return taken;
    const ipc::lease_call* const call =
        c.is_whole && may_call(l, c) ? ipc::open_lease(c.bytes, c.descriptor_count) : nullptr;
    const bool runs = call != nullptr && l.entries->has_entry(call->text(call->entry)) &&
                      fill(*call, c, l, taken.todo);
    if (!runs) {
        tell_word(l.answer, ipc::lease_word_kind::refused);
        return taken;
    }
    taken.came = true;
    if (call->tells_answer != 0) taken.answer = answer_place(l.answer);
    tell_word(l.answer, ipc::lease_word_kind::begins);
    ::sigaction(SIGPIPE, &before, nullptr);
    return taken;
}

}  // namespace cleanfork::templates
