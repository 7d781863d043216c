// The client against a forkserver that misbehaves, or answers in an odd order.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include "tests/unit/client/client_peer.hpp"

using namespace cleanfork;
using namespace cleanfork::test;
using namespace std::chrono_literals;

TEST_CASE("a greeting of another protocol version is refused and says so") {
    peer p;
    std::thread answering([&] { p.answer_hello(true, ipc::k_protocol_version + 1); });
    const auto c = detail::greet(p.take_client_end(), {}, {});
    answering.join();
    REQUIRE(c.has_error());
    CHECK(c.error().step == step::hello);
    CHECK(c.error().error_number == EPROTONOSUPPORT);
}

TEST_CASE("a forkserver that never greets is given up at the deadline") {
    peer p;
    const auto c = detail::greet(p.take_client_end(), {}, detail::steady::now() + 20ms);
    REQUIRE(c.has_error());
    CHECK(c.error().step == step::hello);
    CHECK(c.error().error_number == ETIMEDOUT);
}

TEST_CASE("the greeting carries the environment and the working directory") {
    peer p;
    ::setenv("CLEANFORK_TEST_GREETING", "as it is", 1);
    request hello;
    std::thread answering([&] {
        hello = p.next();
        v1::ServerMessage m;
        m.set_request_id(hello.message.request_id());
        m.mutable_hello()->set_protocol(ipc::k_protocol_version);
        p.send(m);
    });
    const auto c = detail::greet(p.take_client_end(), {}, {});
    answering.join();
    REQUIRE(c.has_value());
    const v1::SessionBase& base = hello.message.hello().base();
    bool found = false;
    for (const std::string& e : base.environment())
        found = found || e == "CLEANFORK_TEST_GREETING=as it is";
    CHECK(found);
    CHECK(base.cwd_descriptor() == 1);
    REQUIRE(hello.descriptors.size() == 1);
    char path[4096];
    const auto n = ::readlink(
        ("/proc/self/fd/" + std::to_string(hello.descriptors[0].get())).c_str(), path, sizeof path);
    REQUIRE(n > 0);
    char cwd[4096];
    CHECK(std::string(path, static_cast<std::size_t>(n)) == ::getcwd(cwd, sizeof cwd));
}

TEST_CASE("replies in another order reach their callers, from any thread") {
    peer p;
    const client c = greeted_client(p);
    own_child first("exec sleep infinity"), second("exec sleep infinity");
    process got[2];
    std::thread a([&] { got[0] = c.spawn({.program = "/first"}); });
    const request r1 = p.next();
    std::thread b([&] { got[1] = c.spawn({.program = "/second"}); });
    const request r2 = p.next();
    CHECK(r1.message.spawn().exec().path() == "/first");
    p.answer_spawn(r2.message.request_id(), 22, second.pid(), second.pidfd());
    p.answer_spawn(r1.message.request_id(), 11, first.pid(), first.pidfd());
    a.join();
    b.join();
    CHECK(got[0].child_id() == 11);
    CHECK(got[0].id() == first.pid());
    CHECK(got[1].child_id() == 22);
}

TEST_CASE("an exit that comes at once after the reply is not lost") {
    peer p;
    const client c = greeted_client(p);
    own_child child("exit 7");
    std::thread answering([&] {
        const request r = p.next();
        p.answer_spawn(r.message.request_id(), 5, child.pid(), child.pidfd());
        p.tell_exit(5, 7);
    });
    const process got = c.spawn({.program = "/x"});
    CHECK(got.wait().code() == 7);
    CHECK(got.status()->code() == 7);
    answering.join();
}

TEST_CASE("seen exits are acknowledged with the next request") {
    peer p;
    const client c = greeted_client(p);
    own_child child("exit 7");
    std::thread answering([&] {
        const request r = p.next();
        CHECK(r.message.acknowledged_size() == 0);
        p.answer_spawn(r.message.request_id(), 5, child.pid(), child.pidfd());
        p.tell_exit(5, 7);
        const request next = p.next();
        REQUIRE(next.message.acknowledged_size() == 1);
        CHECK(next.message.acknowledged(0) == 5);
        v1::ServerMessage m;
        m.set_request_id(next.message.request_id());
        m.mutable_list();
        p.send(m);
    });
    c.spawn({.program = "/x"}).wait();
    CHECK(c.list().empty());
    answering.join();
}

TEST_CASE("sixty-four unacknowledged exits are acknowledged without a request, fewer at the end") {
    peer p;
    {
        const client c = greeted_client(p);
        std::thread answering([&] {
            request r = p.next();
            // Exits of children whose handles are gone count too.
            for (std::uint64_t child = 1; child <= 66; ++child) p.tell_exit(child, 0);
            v1::ServerMessage m;
            m.set_request_id(r.message.request_id());
            m.mutable_list();
            p.send(m);
            r = p.next();
            CHECK(r.message.has_acknowledge());
            CHECK(r.message.acknowledged_size() == 64);
        });
        c.list();
        answering.join();
    }
    const request last = p.next();
    CHECK(last.message.has_acknowledge());
    CHECK(last.message.acknowledged_size() == 2);
}

TEST_CASE("a forkserver that goes in the middle of a request fails it, and every later one") {
    peer p;
    const client c = greeted_client(p);
    std::thread leaving([&] {
        p.next();
        p.close();
    });
    const auto r = c.try_spawn({.program = "/x"});
    leaving.join();
    REQUIRE(r.has_error());
    CHECK(r.error().step == step::connect);
    CHECK(r.error().error_number == ECONNRESET);
    CHECK_FALSE(c.connected());
    CHECK(c.try_spawn({.program = "/x"}).error().error_number == ECONNRESET);
}

TEST_CASE("malformed packets end the connection with a protocol error") {
    const std::string_view bad[] = {"\xff\xff\xff\xff", "\x08\x63"};  // no message; an unknown id
    for (const std::string_view bytes : bad) {
        peer p;
        const client c = greeted_client(p);
        std::thread answering([&] {
            p.next();
            p.send_raw(bytes);
        });
        const auto r = c.try_spawn({.program = "/x"});
        answering.join();
        REQUIRE(r.has_error());
        CHECK(r.error().step == step::protocol);
        CHECK_FALSE(c.connected());
    }
}

TEST_CASE("a reply of another kind, or without its pidfd, is a protocol error of that request") {
    peer p;
    const client c = greeted_client(p);
    std::thread answering([&] {
        v1::ServerMessage m;
        m.set_request_id(p.next().message.request_id());
        m.mutable_stats();
        p.send(m);
        m.Clear();
        m.set_request_id(p.next().message.request_id());
        m.mutable_spawn()->mutable_spawned()->set_child(9);
        p.send(m);
    });
    CHECK(c.try_spawn({.program = "/x"}).error().step == step::protocol);
    CHECK(c.try_spawn({.program = "/x"}).error().step == step::protocol);
    answering.join();
    CHECK(c.connected());
}

TEST_CASE("a spawn answered after its timeout leaves no process") {
    peer p;
    const client c = greeted_client(p);
    own_child child("exec sleep infinity");
    const std::size_t before = ipc::open_descriptor_count();
    const auto r = c.try_spawn({.program = "/x"}, 10ms);
    REQUIRE(r.has_error());
    CHECK(r.error().error_number == ETIMEDOUT);
    const request spawn = p.next();
    CHECK(spawn.message.spawn().queue_timeout_ns() != 0);
    const request cancel = p.next();
    CHECK(cancel.message.cancel().request_id() == spawn.message.request_id());
    p.answer_spawn(spawn.message.request_id(), 3, child.pid(), child.pidfd());
    // Whoever reads next deals with it.
    std::thread answering([&] {
        v1::ServerMessage m;
        m.set_request_id(p.next().message.request_id());
        m.mutable_list();
        p.send(m);
    });
    c.list();
    answering.join();
    CHECK(child.ended());
    CHECK(WTERMSIG(child.reap()) == SIGKILL);
    CHECK(ipc::open_descriptor_count() == before);
}

TEST_CASE("a spawn that was cancelled in time reports the timeout") {
    peer p;
    const client c = greeted_client(p);
    std::thread answering([&] {
        const request spawn = p.next();
        const request cancel = p.next();
        v1::ServerMessage m;
        m.set_request_id(spawn.message.request_id());
        ipc::to_wire(ipc::fail(step::queue, ECANCELED), *m.mutable_failure());
        p.send(m);
        m.Clear();
        m.set_request_id(cancel.message.request_id());
        m.mutable_cancel()->set_cancelled(true);
        p.send(m);
    });
    const auto r = c.try_spawn({.program = "/x"}, 10ms);
    answering.join();
    CHECK(r.error().step == step::queue);
    CHECK(r.error().error_number == ETIMEDOUT);
}

TEST_CASE("packets the socket does not take at once leave in order, with their descriptors") {
    peer p;
    boost::asio::io_context io;
    const client c = greeted_client(p, io.get_executor());
    const std::size_t before = ipc::open_descriptor_count();
    constexpr int k_requests = 400;
    int answered = 0;
    const std::string large(8192, 'x');
    for (int i = 0; i < k_requests; ++i)
        c.async_spawn(
            {.program = "/" + std::to_string(i), .args = {large}, .out = stdio::descriptor{2}},
            [&](const std::exception_ptr& e, process) {
                CHECK(failure_of(e).error_number == EPERM);
                ++answered;
            });
    CHECK(ipc::open_descriptor_count() > before);  // copies wait with their packets
    std::thread answering([&] {
        for (int i = 0; i < k_requests; ++i) {
            const request r = p.next();
            REQUIRE(r.message.spawn().exec().path() == "/" + std::to_string(i));
            REQUIRE(r.descriptors.size() == 1);
            v1::ServerMessage m;
            m.set_request_id(r.message.request_id());
            ipc::to_wire(ipc::fail(step::exec, EPERM), *m.mutable_failure());
            p.send(m);
        }
    });
    io.run();
    answering.join();
    CHECK(answered == k_requests);
    CHECK(ipc::open_descriptor_count() <= before + 3);  // epoll, timer, interrupter
}

TEST_CASE("a blocked sender reads, so that a forkserver that waits to be read goes on") {
    peer p;
    const client c = greeted_client(p);
    // Fills the socket towards the client before it takes anything: the other
    // way round this would be a deadlock.
    const std::string large(60'000, 'x');
    std::vector<std::thread> callers;
    std::atomic<int> failed = 0;
    constexpr int k_callers = 12;
    for (int i = 0; i < k_callers; ++i)
        callers.emplace_back([&] {
            if (c.try_spawn({.program = "/x", .args = {large}}).has_error()) ++failed;
        });
    for (std::uint64_t child = 1; child <= 2000; ++child) p.tell_exit(child, 0);
    for (int i = 0; i < k_callers;) {
        const request r = p.next();
        if (!r.message.has_spawn()) continue;
        v1::ServerMessage m;
        m.set_request_id(r.message.request_id());
        ipc::to_wire(ipc::fail(step::exec, EPERM), *m.mutable_failure());
        p.send(m);
        ++i;
    }
    for (std::thread& t : callers) t.join();
    CHECK(failed == k_callers);
}
