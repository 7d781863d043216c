// Any spawn request is refused by name, or becomes a plan that the child can
// follow without a check of its own.
#include <fcntl.h>

#include <cstring>
#include <set>

#include "forkserver/spawn/plan.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/fuzz/seeds.hpp"

using namespace cleanfork;
using namespace cleanfork::fuzz;

namespace {

std::shared_ptr<const spawn::session_base> base() {
    auto b = std::make_shared<spawn::session_base>();
    b->environment.strings = {"PATH=/usr/bin:/bin", "HOME=/root", "=odd", "odd"};
    b->environment.seal();
    return b;
}

std::size_t length(const char* const* list) {
    std::size_t n = 0;
    while (list[n] != nullptr) n += std::strlen(list[n]) < ipc::k_max_body ? 1 : 0;
    return n;
}

void check(const spawn::prepared& prepared) {
    const spawn::plan& p = prepared.plan;
    require(p.envp != nullptr, "a plan has an environment");
    length(p.envp);
    if (prepared.request().has_call()) {
        for (const int fd : {prepared.payload_fd(), prepared.result_fd()})
            require(fd < 0 || ::fcntl(fd, F_GETFD) >= 0, "what a call has is open");
        require(p.candidates == nullptr && p.program_fd < 0, "a call has no program");
    } else {
        require(p.argv != nullptr && length(p.argv) >= 1, "a plan has an argv");
        require((p.candidates != nullptr) != (p.program_fd >= 0), "a plan has one program");
    }
    if (p.candidates != nullptr) length(p.candidates);
    std::set<int> targets;
    for (std::size_t i = 0; i < p.move_count; ++i) {
        const spawn::descriptor_move& m = p.moves[i];
        require(::fcntl(m.source, F_GETFD) >= 0, "a source is an open descriptor");
        require(m.target >= 0 && m.target <= ipc::k_max_target, "a target is within the limit");
        require(m.target <= p.highest_target, "the highest target is the highest");
        require(targets.insert(m.target).second, "a target is given once");
        require(m.source < p.close_from, "what the plan needs is below what gets closed");
    }
    for (const int fd : {0, 1, 2})
        require(targets.contains(fd), "standard descriptors are never left to chance");
    require(p.program_fd < p.close_from && p.cwd_fd < p.close_from && p.cgroup_fd < p.close_from,
            "what the plan needs is below what gets closed");
    require(spawn::command_of(prepared.request()).size() <= 256, "a command is shown cut");
    for (std::uint32_t s = 0; s < 64; ++s)
        for (const int index : {-1, 0, 1'000'000})
            require(prepared.object_of(static_cast<step>(s), index).size() <= ipc::k_max_body,
                    "every step has an object to show, if an empty one");
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
    std::vector<std::string> seeds;
    seeds.push_back('\0' + true_program().SerializeAsString());
    seeds.push_back('\2' + full_spawn().SerializeAsString());
    v1::SpawnRequest r = full_spawn();
    r.mutable_exec()->set_search("true");
    r.set_cwd_descriptor(3);
    seeds.push_back('\x0b' + r.SerializeAsString());
    r.mutable_exec()->set_program_descriptor(3);
    r.set_cgroup_descriptor(4);
    seeds.push_back('\x64' + r.SerializeAsString());
    seeds.push_back('\0' + call("t").SerializeAsString());
    seeds.push_back('\x2a' + full_call().SerializeAsString());
    write_seeds(*argc, *argv, seeds);
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const unique_fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    static const auto session = base();
    if (size == 0) return 0;
    auto request = std::make_unique<v1::SpawnRequest>();
    if (!request->ParseFromArray(data + 1, static_cast<int>(size - 1))) return 0;
    const std::size_t before = ipc::open_descriptor_count();
    {
        // The first byte: how many descriptors came along, and what the last is for.
        std::vector<unique_fd> fds;
        std::vector<int> purposes;
        for (int i = 0; i < (data[0] & 7); ++i) {
            fds.emplace_back(::open("/dev/null", O_RDWR | O_CLOEXEC));
            purposes.push_back(v1::DESCRIPTOR_PURPOSE_CHILD);
        }
        if (!purposes.empty()) purposes.back() = 2 + (data[0] >> 3) % 6;
        spawn::parent_facts self;
        self.null_fd = null.get();
        self.privileged = (data[0] & 128) != 0;
        self.clone_into_cgroup = (data[0] & 64) != 0;
        self.pid = 1;
        const auto p = spawn::prepare(
            std::move(request), purposes,
            std::make_shared<const std::vector<unique_fd>>(std::move(fds)), session, self);
        if (p)
            check(**p);
        else
            require(p.error().step == step::request || p.error().step == step::cgroup ||
                        p.error().step == step::prepare,
                    "a refusal names its step");
    }
    require(ipc::open_descriptor_count() == before, "no descriptor is lost");
    return 0;
}
