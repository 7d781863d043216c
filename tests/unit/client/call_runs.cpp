// Calls that a forkserver answers: the answer, the exception, and sockets that were passed on.
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include "tests/unit/client/client_peer.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

// Plays a child: writes to the descriptor the call names for its answer.
void write_answer(const request& r, std::string_view answer) {
    const std::uint32_t place = r.message.spawn().call().result_descriptor();
    REQUIRE(place >= 1);
    REQUIRE(::write(r.descriptors[place - 1].get(), answer.data(), answer.size()) ==
            static_cast<ssize_t>(answer.size()));
}

// Answers a spawn with the exit as well.
void answer_with_exit(peer& p, std::uint64_t request_id, std::uint32_t code,
                      const std::string& error) {
    v1::ServerMessage m;
    m.set_request_id(request_id);
    v1::Spawned& s = *m.mutable_spawn()->mutable_spawned();
    s.set_child(7);
    s.set_pid(4242);
    s.mutable_exit()->set_child(7);
    s.mutable_exit()->set_code(code);
    s.mutable_exit()->set_error(error);
    s.mutable_exit()->set_wall_ns(99);
    p.send(m);
}

call_options with_result() { return {.result = true}; }

}  // namespace

TEST_CASE("a call that is run gathers status, answer and exception") {
    peer p;
    const client c = greeted_client(p);
    std::thread answering([&] {
        const request r = p.next();
        CHECK(r.message.spawn().reply_hold_us() > 0);
        CHECK(r.message.spawn().call().payload() == "in");
        write_answer(r, "out");
        answer_with_exit(p, r.message.request_id(), 3, "it threw");
    });
    call_result r = c.run_call("t", "e", "in", with_result());
    answering.join();
    CHECK(r.status.code() == 3);
    CHECK(r.error == "it threw");
    CHECK(r.result() == "out");
    CHECK(r.pid == 4242);
    CHECK(r.wall == std::chrono::nanoseconds(99));
    REQUIRE(r.result_fd);
    CHECK((::fcntl(r.result_fd.get(), F_GET_SEALS) & F_SEAL_WRITE) != 0);
}

TEST_CASE("without a result there is none to read") {
    peer p;
    const client c = greeted_client(p);
    std::thread answering([&] {
        const request r = p.next();
        CHECK(r.descriptors.empty());
        answer_with_exit(p, r.message.request_id(), 0, "");
    });
    const call_result r = c.run_call("t", "e");
    answering.join();
    CHECK(r.status.success());
    CHECK_FALSE(r.result_fd);
    CHECK(r.result().empty());
}

TEST_CASE("a call gives a process, which tells exception and answer once it has ended") {
    peer p;
    const client c = greeted_client(p);
    const own_child stand_in("exec sleep infinity");
    request r;
    std::thread answering([&] {
        r = p.next();
        p.answer_spawn(r.message.request_id(), 9, stand_in.pid(), stand_in.pidfd());
    });
    process child = c.call("t", "e", {}, with_result());
    answering.join();
    CHECK(child.child_id() == 9);
    CHECK(child.error().empty());
    write_answer(r, "later");
    v1::ServerMessage m;
    v1::Exit& e = *m.mutable_exits()->add_exits();
    e.set_child(9);
    e.set_code(1);
    e.set_error("a reason");
    p.send(m);
    CHECK(child.wait().code() == 1);
    CHECK(child.error() == "a reason");
    const unique_fd answer = child.take_result();
    REQUIRE(answer);
    CHECK(read_result(answer.get()) == "later");
    CHECK_FALSE(child.take_result());
}

TEST_CASE("a call that fails names its step, in each of the three forms") {
    peer p;
    const client c = greeted_client(p);
    std::thread answering([&] {
        for (int i = 0; i < 4; ++i) {
            const request r = p.next();
            v1::ServerMessage m;
            m.set_request_id(r.message.request_id());
            v1::Failure& f = *m.mutable_spawn()->mutable_failure();
            f.set_step(static_cast<std::uint32_t>(step::entry));
            f.set_error_number(ENOENT);
            f.set_object("e");
            p.send(m);
        }
    });
    const std::size_t before = ipc::open_descriptor_count();
    CHECK(c.try_call("t", "e", {}, with_result()).error().step == step::entry);
    boost::system::error_code ec;
    CHECK_FALSE(c.call("t", "e", {}, with_result(), ec).valid());
    CHECK(step_of(ec) == step::entry);
    CHECK_THROWS_AS(c.call("t", "e"), spawn_error);
    CHECK(c.try_run_call("t", "e").error().object == "e");
    answering.join();
    CHECK(ipc::open_descriptor_count() == before);
}

TEST_CASE("asynchronous calls give the same") {
    peer p;
    boost::asio::io_context io;
    const client c = greeted_client(p, io.get_executor());
    std::thread answering([&] {
        for (int i = 0; i < 2; ++i) {
            const request r = p.next();
            write_answer(r, "out");
            answer_with_exit(p, r.message.request_id(), 0, "a warning");
        }
    });
    int done = 0;
    c.async_run_call("t", "e", "in", with_result(),
                     [&](const std::exception_ptr& e, const call_result& r) {
                         CHECK(!e);
                         CHECK(r.result() == "out");
                         CHECK(r.error == "a warning");
                         ++done;
                     });
    c.async_call("t", "e", "in", with_result(), [&](const std::exception_ptr& e, process child) {
        CHECK(!e);
        CHECK(child.status()->success());
        CHECK(read_result(child.take_result().get()) == "out");
        ++done;
    });
    io.run();
    answering.join();
    CHECK(done == 2);
}

TEST_CASE("an asynchronous call that cannot be made completes with the reason") {
    peer p;
    boost::asio::io_context io;
    const client c = greeted_client(p, io.get_executor());
    failure plain, run;
    const call_options wrong{.attributes = {.program = "/bin/true"}};
    c.async_call("t", "e", {}, wrong,
                 [&](const std::exception_ptr& e, process) { plain = failure_of(e); });
    c.async_run_call("t", "e", {}, wrong,
                     [&](const std::exception_ptr& e, const call_result&) { run = failure_of(e); });
    CHECK(plain.step == step::none);  // never inside the initiating function
    io.run();
    CHECK(plain.object == "program");
    CHECK(run.object == "program");
}

TEST_CASE("a run that is cancelled while queued completes by the forkserver's answer") {
    peer p;
    boost::asio::io_context io;
    const client c = greeted_client(p, io.get_executor());
    boost::asio::cancellation_signal cancel;
    failure f;
    c.async_run_call("t", "e", {}, {},
                     boost::asio::bind_cancellation_slot(
                         cancel.slot(), [&](const std::exception_ptr& e, const call_result&) {
                             f = failure_of(e);
                         }));
    cancel.emit(boost::asio::cancellation_type::total);
    std::thread answering([&] {
        const request spawn = p.next();
        const request stop = p.next();
        REQUIRE(stop.message.has_cancel());
        CHECK(stop.message.cancel().request_id() == spawn.message.request_id());
        v1::ServerMessage m;
        m.set_request_id(spawn.message.request_id());
        m.mutable_failure()->set_step(static_cast<std::uint32_t>(step::queue));
        m.mutable_failure()->set_error_number(ECANCELED);
        p.send(m);
    });
    io.run();
    answering.join();
    CHECK(f.error_number == ECANCELED);
}

// ---- attach ----------------------------------------------------------------

TEST_CASE("a connected socket that was passed on becomes a client") {
    peer p;
    unique_fd socket = p.take_client_end();
    // As another program may have left it.
    REQUIRE(::fcntl(socket.get(), F_SETFL, O_RDWR) == 0);
    REQUIRE(::fcntl(socket.get(), F_SETFD, 0) == 0);
    const int number = socket.get();
    std::thread answering([&] { p.answer_hello(); });
    const client c = attach(std::move(socket));
    answering.join();
    CHECK(c.connected());
    CHECK(c.server().pid == 4711);
    CHECK((::fcntl(number, F_GETFL) & O_NONBLOCK) != 0);
    CHECK((::fcntl(number, F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("the same on an executor, and asynchronously") {
    boost::asio::io_context io;
    {
        peer p;
        std::thread answering([&] { p.answer_hello(); });
        const client c = attach(io.get_executor(), p.take_client_end());
        answering.join();
        CHECK(c.get_executor() == io.get_executor());
    }
    peer p;
    std::thread answering([&] { p.answer_hello(); });
    auto attached =
        async_attach(io.get_executor(), p.take_client_end(), std::nullopt, boost::asio::use_future);
    io.run();
    answering.join();
    CHECK(attached.get().connected());
}

TEST_CASE("what is no socket of a forkserver is refused, and closed") {
    const std::size_t before = ipc::open_descriptor_count();
    const auto refusal = [](unique_fd fd) {
        try {
            attach(std::move(fd));
        } catch (const spawn_error& e) {
            return e.why();
        }
        return failure();
    };
    int fds[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    const unique_fd other(fds[1]);
    const failure stream = refusal(unique_fd(fds[0]));
    CHECK(stream.step == step::connect);
    CHECK(stream.error_number == EPROTOTYPE);
    CHECK(refusal(unique_fd(::open("/dev/null", O_RDWR | O_CLOEXEC))).error_number == ENOTSOCK);
    CHECK(refusal(unique_fd()).error_number == EBADF);
    boost::asio::io_context io;
    auto attached =
        async_attach(io.get_executor(), unique_fd(), std::nullopt, boost::asio::use_future);
    io.run();
    CHECK_THROWS_AS(attached.get(), spawn_error);
    CHECK(ipc::open_descriptor_count() == before + 1);  // `other`
}
