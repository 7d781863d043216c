// The forkserver's side of call_block.hpp.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "forkserver/spawn/call_block.hpp"
#include "forkserver/spawn/planner.hpp"

namespace cleanfork::spawn {

namespace {

constexpr std::size_t k_pid_room = 13;  // of "-2147483648" and more, with its end

// Grows at its end; what is aligned stays so, since a block is as its memory is.
class block_writer {
public:
    explicit block_writer(std::size_t header) : bytes_(header, '\0') {}

    template <class T>
    block_part put(const T* items, std::size_t count) {
        static_assert(std::is_trivially_copyable_v<T>);
        bytes_.resize((bytes_.size() + alignof(T) - 1) / alignof(T) * alignof(T));
        const std::size_t at = bytes_.size();
        bytes_.append(reinterpret_cast<const char*>(items), count * sizeof(T));
        return {at, count};
    }
    block_part put(std::string_view text) { return put(text.data(), text.size()); }
    block_part put_string(const char* s) { return put(s, std::strlen(s) + 1); }

    std::string take(call_block header) && {
        bytes_.push_back('\0');
        header.size = bytes_.size();
        std::memcpy(bytes_.data(), &header, sizeof header);
        return std::move(bytes_);
    }

private:
    std::string bytes_;
};

template <class T>
T* as_pointer(block_part p) {
    return reinterpret_cast<T*>(p.at);
}

class packer {
public:
    packer(const prepared& p, const std::vector<int>& descriptors)
        : from_(p), descriptors_(descriptors) {}

    std::string run(const call_facts& facts) && {
        b_.steps = from_.plan;
        b_.becomes = facts.becomes;
        b_.lease = index_of(facts.lease);
        b_.lease_of = facts.lease_of;
        b_.steps.set_umask = true;  // the template's is whatever it chose
        map();
        environment();
        conduct(b_.steps, 1);
        conduct(b_.steps.caller_conduct, 0);
        groups(b_.steps);
        groups(b_.steps.caller);
        b_.groups_asked = from_.request().has_groups();
        target(from_.request().call());
        return std::move(out_).take(b_);
    }

private:
    [[nodiscard]] int index_of(int fd) const {
        if (fd < 0) return -1;
        const auto at = std::find(descriptors_.begin(), descriptors_.end(), fd);
        if (at == descriptors_.end()) throw std::logic_error("a descriptor of no request");
        return static_cast<int>(at - descriptors_.begin());
    }

    void map() {
        plan& p = b_.steps;
        std::vector<descriptor_move> moves(p.moves, p.moves + p.move_count);
        for (descriptor_move& m : moves) m.source = index_of(m.source);
        p.moves = as_pointer<descriptor_move>(out_.put(moves.data(), moves.size()));
        p.cwd_fd = index_of(p.cwd_fd);
        p.cgroup_fd = index_of(p.cgroup_fd);
        if (p.cwd_path != nullptr) p.cwd_path = as_pointer<char>(out_.put_string(p.cwd_path));
        b_.cgroup = out_.put(from_.request().cgroup_path());
    }

    void environment() {
        std::vector<char*> offsets;
        for (char* const* e = from_.plan.envp; *e != nullptr; ++e) {
            const std::size_t size = std::strlen(*e);
            // Behind LISTEN_PID= there is room, where the child writes its own.
            const bool has_room = from_.plan.listen_pid == *e + size;
            const block_part at = out_.put(*e, size + (has_room ? k_pid_room : 1));
            if (has_room) b_.steps.listen_pid = as_pointer<char>(at) + size;
            offsets.push_back(as_pointer<char>(at));
        }
        offsets.push_back(nullptr);
        b_.steps.envp = as_pointer<char* const>(out_.put(offsets.data(), offsets.size()));
    }

    void conduct(conduct_plan& c, std::size_t room) {
        if (c.cpus != nullptr)
            c.cpus = as_pointer<const cpu_set_t>(out_.put(c.cpus, c.cpus_size / sizeof(cpu_set_t)));
        std::vector<resource_limit> limits(c.limits, c.limits + c.limit_count);
        limits.resize(limits.size() + room);
        c.limits = as_pointer<const resource_limit>(out_.put(limits.data(), limits.size()));
    }

    void groups(credential_plan& c) {
        c.groups = as_pointer<const gid_t>(out_.put(c.groups, c.group_count));
    }

    void target(const v1::CallTarget& call) {
        b_.payload = index_of(from_.payload_fd());
        b_.result = index_of(from_.result_fd());
        b_.answer = index_of(from_.answer_fd());
        b_.entry = out_.put(call.entry());
        b_.payload_bytes = out_.put(call.payload());
        std::vector<block_part> arguments;
        for (const std::string& a : call.arguments()) arguments.push_back(out_.put(a));
        b_.arguments = out_.put(arguments.data(), arguments.size());
        // The first moves of the plan are those of the request, in its order.
        std::vector<named_move> names;
        std::uint64_t move = 0;
        for (const auto& m : from_.request().descriptors()) {
            if (!m.name().empty()) names.push_back({out_.put(m.name()), move});
            ++move;
        }
        b_.names = out_.put(names.data(), names.size());
    }

    const prepared& from_;
    const std::vector<int>& descriptors_;
    call_block b_;
    block_writer out_{sizeof(call_block)};
};

// The request is where it was in the end, whatever throws meanwhile.
class given_back {
public:
    given_back(std::unique_ptr<v1::SpawnRequest>& to, prepared& from) : to_(to), from_(from) {}
    given_back(const given_back&) = delete;
    given_back& operator=(const given_back&) = delete;
    ~given_back() { to_ = from_.take_request(); }

private:
    std::unique_ptr<v1::SpawnRequest>& to_;
    prepared& from_;
};

packed_call pack(const prepared& p, const std::vector<unique_fd>& descriptors,
                 const session_base& base, const call_facts& facts) {
    packed_call packed;
    packed.descriptors.reserve(descriptors.size() + 3);
    for (const unique_fd& fd : descriptors) packed.descriptors.push_back(fd.get());
    if (facts.lease >= 0) packed.descriptors.push_back(facts.lease);
    if (base.cwd && p.plan.cwd_fd == base.cwd.get()) packed.descriptors.push_back(base.cwd.get());
    const bool own_cgroup = p.plan.cgroup_fd >= 0 && p.request().has_cgroup_path();
    if (own_cgroup) packed.descriptors.push_back(p.plan.cgroup_fd);
    packed.bytes = packer(p, packed.descriptors).run(facts);
    if (own_cgroup) {
        packed.cgroup = p.dup_cgroup();
        packed.descriptors.back() = packed.cgroup.get();
    }
    return packed;
}

}  // namespace

result<packed_call> pack_call(std::unique_ptr<v1::SpawnRequest>& request,
                              const std::vector<int>& purposes, shared_descriptors descriptors,
                              std::shared_ptr<const session_base> base, const call_facts& facts) {
    // What of the child depends on what its template is, it finds out itself.
    parent_facts any;
    any.privileged = true;
    prepared p;
    const given_back back(request, p);
    const auto planned =
        planner::prepare_into(p, std::move(request), purposes, descriptors, base, any);
    if (!planned) return planned.error();
    return pack(p, *descriptors, *base, facts);
}

}  // namespace cleanfork::spawn
