// Messages to packets and back, and whatever a peer may send instead.
#include "ipc/wire/message.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <random>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

using namespace cleanfork;
using namespace cleanfork::ipc;

namespace {

socket_pair connected() {
    auto pair = seqpacket_pair();
    REQUIRE(pair.has_value());
    return std::move(*pair);
}

v1::ClientMessage spawn_of(std::size_t argument_bytes) {
    v1::ClientMessage m;
    m.set_request_id(5);
    m.mutable_spawn()->mutable_exec()->set_path("/bin/true");
    m.mutable_spawn()->mutable_exec()->add_argv(std::string(argument_bytes, 'x'));
    return m;
}

received packet_of(const encoded& e, std::vector<unique_fd> more = {}) {
    received r;
    r.status = receive_status::packet;
    r.body = e.body;
    if (e.body_fd) r.descriptors.emplace_back(::fcntl(e.body_fd.get(), F_DUPFD_CLOEXEC, 3));
    for (unique_fd& fd : more) r.descriptors.push_back(std::move(fd));
    return r;
}

unique_fd null() { return unique_fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

TEST_CASE("a small message travels in its packet") {
    const auto e = encode(spawn_of(10));
    REQUIRE(e.has_value());
    CHECK_FALSE(bool(e->body_fd));
    const auto d = decode_client_message(packet_of(*e));
    REQUIRE(d.has_value());
    CHECK(d->message.request_id() == 5);
    CHECK(d->message.spawn().exec().argv(0) == std::string(10, 'x'));
}

TEST_CASE("under a limit of the file size a large message goes into a pipe, and nobody dies") {
    const v1::ClientMessage large = spawn_of(100'000);
    const pid_t limited = ::fork();  // single-threaded here: the limit is this process's
    if (limited == 0) {
        const rlimit few{4096, 4096};
        ::setrlimit(RLIMIT_FSIZE, &few);
        const auto e = encode(large);
        const auto d = e ? decode_client_message(packet_of(*e)) : e.error();
        sigset_t pending;
        ::sigpending(&pending);
        ::_exit(d && d->message.spawn().exec().argv(0).size() == 100'000 &&
                        ::sigismember(&pending, SIGXFSZ) == 0
                    ? 0
                    : 1);
    }
    int status = 1;
    REQUIRE(::waitpid(limited, &status, 0) == limited);
    CHECK(status == 0);
}

TEST_CASE("a pipe as the body holds what was stated, and is never waited for") {
    encoded e = *encode(spawn_of(100'000));
    const auto with = [&](unique_fd body) {
        e.body_fd = std::move(body);
        return decode_client_message(packet_of(e));
    };
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);  // blocking, and its writer stays
    const unique_fd writer(ends[1]);
    CHECK(with(unique_fd(ends[0])).has_error());
    CHECK(with(*filled_pipe("short")).has_error());
    const std::string nonsense(static_cast<std::size_t>(spawn_of(100'000).ByteSizeLong()), '\xff');
    CHECK(with(*filled_pipe(nonsense)).has_error());
}

TEST_CASE("64 KiB are the most that travel inline; more goes into a sealed memfd") {
    std::size_t argument = k_max_inline_body;
    while (spawn_of(argument).ByteSizeLong() > k_max_inline_body) --argument;
    CHECK_FALSE(bool(encode(spawn_of(argument))->body_fd));
    const auto e = encode(spawn_of(argument + 1));
    REQUIRE(bool(e->body_fd));
    CHECK(::ftruncate(e->body_fd.get(), 0) == -1);
    CHECK(::pwrite(e->body_fd.get(), "y", 1, 0) == -1);
    CHECK(::fcntl(e->body_fd.get(), F_ADD_SEALS, 0) == -1);
    const auto d = decode_client_message(packet_of(*e));
    REQUIRE(d.has_value());
    CHECK(d->descriptors.empty());
    CHECK(d->message.spawn().exec().argv(0).size() == argument + 1);
}

TEST_CASE("a large message keeps its descriptors in order, after its body") {
    v1::ClientMessage m = spawn_of(100'000);
    m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
    m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CWD);
    const auto e = encode(m);
    std::vector<unique_fd> two;
    two.push_back(null());
    two.emplace_back(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const auto d = decode_client_message(packet_of(*e, std::move(two)));
    REQUIRE(d.has_value());
    REQUIRE(d->descriptors.size() == 2);
    struct stat st {};
    REQUIRE(::fstat(d->descriptors[1].get(), &st) == 0);
    CHECK(S_ISDIR(st.st_mode));
}

TEST_CASE("over 16 MiB a message is refused where it is made") {
    const auto e = encode(spawn_of(k_max_body));
    REQUIRE_FALSE(e.has_value());
    CHECK(e.error().error_number == EMSGSIZE);
    CHECK(encode(spawn_of(k_max_body - 100)).has_value());
}

TEST_CASE("a large message leaves room for 63 descriptors") {
    auto pair = connected();
    const auto e = encode(spawn_of(100'000));
    const unique_fd fd = null();
    CHECK(send(pair.first.get(), *e, std::vector<int>(63, fd.get())) == send_status::sent);
    CHECK(send(pair.first.get(), *e, std::vector<int>(64, fd.get())) == send_status::failed);
    CHECK(errno == EINVAL);
}

TEST_CASE("the descriptors of a message that is refused are closed") {
    const std::size_t before = open_descriptor_count();
    v1::ClientMessage m = spawn_of(10);
    m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
    const auto e = encode(m);
    std::vector<unique_fd> two;
    two.push_back(null());
    two.push_back(null());
    const auto d = decode_client_message(packet_of(*e, std::move(two)));
    REQUIRE_FALSE(d.has_value());
    CHECK(d.error().step == step::protocol);
    CHECK(open_descriptor_count() == before);
}

TEST_CASE("any bytes are a message or a protocol error, and no descriptor is lost") {
    const unsigned seed = std::random_device()();
    CAPTURE(seed);
    std::mt19937 random(seed);
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    v1::ClientMessage valid = spawn_of(30);
    valid.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
    const std::string good = valid.SerializeAsString();
    const std::size_t before = open_descriptor_count();
    int refused = 0;
    for (int i = 0; i < 20'000; ++i) {
        encoded e;
        e.body = good;
        for (std::size_t j = 0; j <= below(3); ++j)
            e.body[below(e.body.size())] = static_cast<char>(random());
        e.body.resize(1 + below(e.body.size()));
        std::vector<unique_fd> fds;
        for (std::size_t j = below(3); j > 0; --j) fds.push_back(null());
        const auto d = decode_client_message(packet_of(e, std::move(fds)));
        if (d) continue;
        ++refused;
        REQUIRE(d.error().step == step::protocol);
    }
    CHECK(refused > 10'000);
    CHECK(open_descriptor_count() == before);
}

TEST_CASE("a failure crosses the wire as it is") {
    const failure f{step::chdir, ENOENT, "/with a space\n", "a sentence"};
    CHECK(from_wire(to_wire(f)) == f);
    v1::Failure unknown;
    unknown.set_step(4711);
    CHECK(to_string(from_wire(unknown).step) == "unknown");
}

TEST_CASE("the texts of a failure are cut where a batch of them would not fit into a reply") {
    const std::string most(k_max_failure_text, 'x');
    const failure whole = from_wire(to_wire(fail(step::exec, 2, most, most)));
    CHECK(whole.object == most);
    CHECK(whole.detail == most);
    const failure cut = from_wire(to_wire(fail(step::exec, 2, most + "x", most + "x")));
    CHECK(cut.object.size() == k_max_failure_text);
    CHECK(cut.object.ends_with("x..."));
    CHECK(cut.detail.size() == k_max_failure_text);
    CHECK(k_max_batch * 2 * k_max_failure_text < k_max_body);
}
