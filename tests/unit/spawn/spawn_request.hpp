// Spawn requests made ready by hand, as the daemon does it.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "forkserver/spawn/plan.hpp"

namespace cleanfork::spawn {

// A request with the descriptors of its packet.
struct spawn_request {
    v1::SpawnRequest body;
    std::vector<int> purposes;
    std::vector<unique_fd> descriptors;

    explicit spawn_request(std::initializer_list<const char*> argv = {"/bin/true"}) {
        body.mutable_exec()->set_path(*argv.begin());
        for (const char* a : argv) body.mutable_exec()->add_argv(a);
    }

    // The number by which the request refers to it.
    std::uint32_t add(unique_fd fd, v1::DescriptorPurpose purpose) {
        descriptors.push_back(std::move(fd));
        purposes.push_back(purpose);
        return static_cast<std::uint32_t>(descriptors.size());
    }
    std::uint32_t add_null(v1::DescriptorPurpose purpose = v1::DESCRIPTOR_PURPOSE_CHILD) {
        return add(unique_fd(::open("/dev/null", O_RDWR | O_CLOEXEC)), purpose);
    }
    void map(std::uint32_t reference, int target) {
        auto& m = *body.add_descriptors();
        m.set_source_descriptor(reference);
        m.set_target(target);
    }
};

inline std::shared_ptr<session_base> make_base(std::vector<std::string> environment = {}) {
    auto base = std::make_shared<session_base>();
    base->environment.strings = std::move(environment);
    base->environment.seal();
    base->cwd.reset(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    return base;
}

inline result<std::unique_ptr<prepared>> prepare(spawn_request r,
                                                 std::shared_ptr<const session_base> base,
                                                 const parent_facts& self = {}) {
    return prepare(std::make_unique<v1::SpawnRequest>(std::move(r.body)), r.purposes,
                   std::make_shared<const std::vector<unique_fd>>(std::move(r.descriptors)),
                   std::move(base), self);
}

// The plan of a request that must be good.
inline std::unique_ptr<prepared> planned(spawn_request r,
                                         std::shared_ptr<const session_base> base = make_base(),
                                         const parent_facts& self = {}) {
    auto p = prepare(std::move(r), std::move(base), self);
    if (!p) FAIL(p.error().message());
    return std::move(*p);
}

// The failure of one that must not be.
inline failure refused(spawn_request r) {
    auto p = prepare(std::move(r), make_base());
    if (p) FAIL("the request was accepted");
    return p.error();
}

}  // namespace cleanfork::spawn
