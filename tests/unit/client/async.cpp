// Asynchronous operations where the forkserver's timing matters.
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include "tests/unit/client/client_peer.hpp"

using namespace cleanfork;
using namespace cleanfork::test;
using boost::asio::io_context;

TEST_CASE("without any executor an asynchronous operation fails and names the remedy") {
    peer p;
    const client c = greeted_client(p);
    failure f;
    c.async_spawn({.program = "/x"},
                  [&](const std::exception_ptr& e, process) { f = failure_of(e); });
    CHECK(f.error_number == EINVAL);
    CHECK(f.message().find("bind_executor") != std::string::npos);
}

TEST_CASE("a client without executor uses the one of the completion token") {
    peer p;
    io_context io;
    const client c = greeted_client(p);
    const auto check = [&](auto executor) {
        int answered = 0;
        c.async_list(boost::asio::bind_executor(
            executor, [&](const std::exception_ptr& e, const std::vector<child_info>&) {
                CHECK(!e);
                ++answered;
            }));
        v1::ServerMessage m;
        m.set_request_id(p.next().message.request_id());
        m.mutable_list();
        p.send(m);
        io.restart();
        io.run();
        CHECK(answered == 1);
    };
    check(io.get_executor());
    check(boost::asio::any_io_executor(io.get_executor()));
    check(boost::asio::make_strand(io));
}

TEST_CASE("a context with nothing pending runs out of work beside a live client") {
    peer p;
    io_context io;
    const client c = greeted_client(p, io.get_executor());
    bool done = false;
    c.async_list([&](const std::exception_ptr&, const std::vector<child_info>&) { done = true; });
    v1::ServerMessage m;
    m.set_request_id(p.next().message.request_id());
    m.mutable_list();
    p.send(m);
    io.run();  // would not return if the socket were still watched
    CHECK(done);
}

TEST_CASE("a completion handler may block in another call of the same client") {
    peer p;
    io_context io;
    const client c = greeted_client(p, io.get_executor());
    std::size_t listed = 99;
    c.async_list([&](const std::exception_ptr&, const std::vector<child_info>&) {
        listed = c.list().size();
    });
    std::thread answering([&] {
        for (int i = 0; i < 2; ++i) {
            v1::ServerMessage m;
            m.set_request_id(p.next().message.request_id());
            m.mutable_list();
            p.send(m);
        }
    });
    io.run();
    answering.join();
    CHECK(listed == 0);
}

TEST_CASE("a blocked thread reads the reply of an asynchronous call, and the other way round") {
    peer p;
    io_context io;
    const client c = greeted_client(p, io.get_executor());
    bool done = false;
    c.async_list([&](const std::exception_ptr&, const std::vector<child_info>&) { done = true; });
    const request first = p.next();
    std::thread answering([&] {
        const request second = p.next();
        v1::ServerMessage m;
        m.mutable_list();
        m.set_request_id(first.message.request_id());
        p.send(m);
        m.set_request_id(second.message.request_id());
        p.send(m);
    });
    CHECK(c.list().empty());  // reads both replies: nobody runs the context
    answering.join();
    CHECK_FALSE(done);  // but completes only where it belongs
    io.run();
    CHECK(done);
}

TEST_CASE("cancelling a queued spawn asks the forkserver, and completes by its answer") {
    peer p;
    io_context io;
    const client c = greeted_client(p, io.get_executor());
    boost::asio::cancellation_signal signal;
    failure f;
    c.async_spawn({.program = "/x"}, boost::asio::bind_cancellation_slot(
                                         signal.slot(), [&](const std::exception_ptr& e, process) {
                                             f = failure_of(e);
                                         }));
    const request spawn = p.next();
    signal.emit(boost::asio::cancellation_type::total);
    const request cancel = p.next();
    CHECK(cancel.message.cancel().request_id() == spawn.message.request_id());
    CHECK(io.poll() == 0);
    v1::ServerMessage m;
    m.set_request_id(spawn.message.request_id());
    ipc::to_wire(ipc::fail(step::queue, ECANCELED), *m.mutable_failure());
    p.send(m);
    io.restart();
    io.run();
    CHECK(f.step == step::queue);
    CHECK(f.error_number == ECANCELED);
}

TEST_CASE("a cancelled list completes at once, and its late reply is no error") {
    peer p;
    io_context io;
    const client c = greeted_client(p, io.get_executor());
    boost::asio::cancellation_signal signal;
    failure f;
    c.async_list(boost::asio::bind_cancellation_slot(
        signal.slot(),
        [&](const std::exception_ptr& e, const std::vector<child_info>&) { f = failure_of(e); }));
    v1::ServerMessage m;
    m.set_request_id(p.next().message.request_id());
    m.mutable_list();
    signal.emit(boost::asio::cancellation_type::terminal);
    io.run();
    CHECK(f.error_number == ECANCELED);
    p.send(m);
    std::thread answering([&] {
        m.set_request_id(p.next().message.request_id());
        p.send(m);
    });
    CHECK(c.list().empty());
    answering.join();
}

TEST_CASE("destroying the client fails what is pending with ECANCELED") {
    peer p;
    io_context io;
    client c = greeted_client(p, io.get_executor());
    failure f;
    c.async_spawn({.program = "/x"},
                  [&](const std::exception_ptr& e, process) { f = failure_of(e); });
    c = client();
    io.run();
    CHECK(f.error_number == ECANCELED);
    CHECK(p.next().message.has_spawn());
    CHECK(p.next().message.body_case() == v1::ClientMessage::BODY_NOT_SET);  // the end
}

TEST_CASE("a context that goes first takes its operations along, without a call or a leak") {
    peer p;
    auto io = std::make_unique<io_context>();
    auto alive = std::make_shared<int>();
    const std::weak_ptr<int> watched = alive;
    bool called = false;
    {
        // The coroutine owns the client that it waits with.
        auto c = std::make_shared<client>(greeted_client(p, io->get_executor()));
        boost::asio::co_spawn(
            *io,
            [](std::shared_ptr<client> own, std::shared_ptr<int>) -> boost::asio::awaitable<void> {
                co_await own->async_list(boost::asio::use_awaitable);
            }(std::move(c), std::move(alive)),
            [&](const std::exception_ptr&) { called = true; });
    }
    io->poll();
    CHECK_FALSE(watched.expired());
    io.reset();
    CHECK(watched.expired());
    CHECK_FALSE(called);
    CHECK(p.next().message.has_list());
    CHECK(p.next().message.body_case() == v1::ClientMessage::BODY_NOT_SET);
}
