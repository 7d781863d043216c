// Spawns that wait: in order within a session, in turn between sessions, counted.
#include "forkserver/daemon/sessions/spawn_queue.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>

#include "forkserver/daemon/core.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"

using namespace cleanfork;
using namespace cleanfork::daemon;

namespace {

queued_spawn spawn_of(std::uint64_t session, std::uint64_t request, std::size_t descriptors = 0) {
    queued_spawn q;
    q.session = session_id(session);
    q.request_id = request_id(request);
    q.request = std::make_unique<v1::SpawnRequest>();
    std::vector<unique_fd> fds;
    for (std::size_t i = 0; i < descriptors; ++i)
        fds.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    q.descriptors = std::make_shared<const std::vector<unique_fd>>(std::move(fds));
    return q;
}

std::vector<std::uint64_t> drain(spawn_queue& q) {
    std::vector<std::uint64_t> requests;
    while (auto s = q.pop()) requests.push_back(s->request_id.value());
    return requests;
}

using order = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("a session's spawns come in their order") {
    spawn_queue q;
    CHECK_FALSE(q.pop().has_value());
    for (const std::uint64_t r : {3U, 1U, 2U}) q.push(spawn_of(7, r));
    CHECK(q.size() == 3);
    CHECK(drain(q) == order{3, 1, 2});
    CHECK(q.empty());
}

TEST_CASE("sessions take turns, however many spawns one of them has") {
    spawn_queue q;
    for (const std::uint64_t r : {11U, 12U, 13U, 14U}) q.push(spawn_of(1, r));
    for (const std::uint64_t r : {21U, 22U}) q.push(spawn_of(2, r));
    q.push(spawn_of(3, 31));
    CHECK(drain(q) == order{11, 21, 31, 12, 22, 13, 14});
}

TEST_CASE("one request is taken out with all items of its batch; the others keep their order") {
    spawn_queue q;
    for (const std::uint64_t r : {1U, 2U, 2U, 3U}) q.push(spawn_of(1, r));
    q.push(spawn_of(2, 2));
    CHECK(q.remove(session_id(1), request_id(2)).size() == 2);
    CHECK(q.size() == 3);
    CHECK(q.remove(session_id(1), request_id(2)).empty());
    CHECK(q.remove(session_id(5), request_id(2)).empty());
    CHECK(drain(q) == order{1, 2, 3});
}

TEST_CASE("a session that has gone leaves no turn and no descriptor behind") {
    const std::size_t before = ipc::open_descriptor_count();
    spawn_queue q;
    for (const std::uint64_t r : {1U, 2U}) q.push(spawn_of(1, r, 3));
    q.push(spawn_of(2, 3));
    q.remove_session(session_id(1));
    CHECK(ipc::open_descriptor_count() == before);
    CHECK(q.size() == 1);
    // Its number may come again: once in turn, not twice.
    q.push(spawn_of(1, 4));
    q.push(spawn_of(2, 5));
    CHECK(drain(q) == order{3, 4, 5});
    q.push(spawn_of(1, 6));
    q.remove(session_id(1), request_id(6));
    CHECK(q.empty());
    CHECK_FALSE(q.pop().has_value());
}

TEST_CASE("quotas leave descriptors for everybody, and a maximal request its own") {
    const quotas usual;
    CHECK(fitted(usual, 1'000'000).sessions_per_uid == usual.sessions_per_uid);
    CHECK(fitted(usual, 1'000'000).queued_descriptors_per_session ==
          usual.queued_descriptors_per_session);
    CHECK(fitted(usual, 1024).sessions_per_uid == 256);
    CHECK(fitted(usual, 1024).queued_descriptors_per_session == 128);
    CHECK(fitted(usual, 64).queued_descriptors_per_session == ipc::k_max_descriptors);
    CHECK(fitted(usual, 1).sessions_per_uid == 1);
    quotas few = usual;
    few.sessions_per_uid = 2;
    few.queued_descriptors_per_session = 4;
    CHECK(fitted(few, 1024).sessions_per_uid == 2);
    CHECK(fitted(few, 1024).queued_descriptors_per_session == 4);
}
