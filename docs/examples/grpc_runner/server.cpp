// A gRPC server that runs programs, without ever forking itself.
//
// The forkserver is started before anything else exists. What the server becomes
// later (gRPC's threads, its sockets, its locks, its memory) no program can inherit.
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <cleanfork/client.hpp>
#include <csignal>
#include <iostream>
#include <thread>

#include "runner.grpc.pb.h"
#include "session.hpp"

namespace asio = boost::asio;

namespace {

class runner_service final : public runner::v1::Runner::CallbackService {
public:
    runner_service(asio::any_io_executor executor, const cleanfork::client& forkserver)
        : executor_(std::move(executor)), forkserver_(forkserver) {}

private:
    session::stream_type* Run(grpc::CallbackServerContext*) override {
        return session::start(executor_, forkserver_);
    }

    const asio::any_io_executor executor_;
    const cleanfork::client& forkserver_;
};

struct listening_server {
    std::unique_ptr<grpc::Server> server;
    std::string address;
};

listening_server listen(const std::string& address, runner_service& service) {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service);
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (!server) return {};
    // Port 0 stands for whichever is free; a path has no port.
    const bool any_port = address.ends_with(":0") && !address.starts_with("unix:");
    return {std::move(server),
            any_port ? address.substr(0, address.size() - 1) + std::to_string(port) : address};
}

int serve(const std::string& address, asio::io_context& io, const cleanfork::client& forkserver) {
    // A program that closes its input must not end us. It gets SIGPIPE as new
    // all the same: what is ignored here is not ignored there.
    std::signal(SIGPIPE, SIG_IGN);
    asio::signal_set stop(io, SIGTERM, SIGINT);
    runner_service service(io.get_executor(), forkserver);
    const listening_server listening = listen(address, service);
    if (!listening.server) {
        std::cerr << "grpc_runner_server: cannot listen on " << address << '\n';
        return 1;
    }
    std::cout << "listening on " << listening.address << ", forkserver is process "
              << forkserver.server().pid << std::endl;

    std::jthread shutdown;
    stop.async_wait([&](boost::system::error_code, int) {
        // On another thread, since it waits for the calls, which go on in this
        // one; those that take longer are cancelled, and their programs killed.
        shutdown = std::jthread([&] {
            listening.server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
            io.stop();
        });
    });
    const auto stay = asio::make_work_guard(io);
    io.run();
    return 0;
}

}  // namespace

int main(int argc, char** argv) try {
    asio::io_context io(1);
    const cleanfork::client forkserver = cleanfork::launch(io.get_executor());

    std::string address;
    CLI::App app("Runs programs for those who can connect: mind who can.");
    app.add_option("address", address, "unix:PATH, or HOST:PORT where port 0 takes a free one")
        ->required();
    CLI11_PARSE(app, argc, argv);
    return serve(address, io, forkserver);
} catch (const std::exception& e) {
    std::cerr << "grpc_runner_server: " << e.what() << '\n';
    return 1;
}
