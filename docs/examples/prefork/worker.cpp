// A worker: the entry "serve" of the template. gRPC begins here, after the fork.
#include <grpcpp/grpcpp.h>
#include <grpcpp/server_posix.h>

#include <atomic>
#include <chrono>
#include <cleanfork/template.hpp>
#include <csignal>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <stdexcept>

#include "acceptor.hpp"
#include "prefork.grpc.pb.h"
#include "sockets.hpp"

namespace prefork {

namespace {

using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;
using google::protobuf::UInt64Value;

constexpr int k_cut_off = 3;  // the exit code when requests had to be cut off
constexpr auto k_look_again = 10ms;
constexpr auto k_last_calls = 200ms;

class squares final : public v1::Squares::Service {
public:
    explicit squares(std::chrono::milliseconds work) : work_(work) {}
    [[nodiscard]] std::uint64_t served() const noexcept { return served_; }

private:
    grpc::Status Square(grpc::ServerContext* context, const UInt64Value* request,
                        UInt64Value* reply) override {
        context->AddInitialMetadata("worker-pid", std::to_string(::getpid()));
        // Of a call that gRPC repeats: how often it was tried.
        const auto tried = context->client_metadata().find("grpc-previous-rpc-attempts");
        if (tried != context->client_metadata().end())
            context->AddInitialMetadata("attempts-before",
                                        {tried->second.data(), tried->second.size()});
        std::this_thread::sleep_for(work_);  // what a real one would compute or wait for
        reply->set_value(request->value() * request->value());
        ++served_;
        return grpc::Status::OK;
    }

    const std::chrono::milliseconds work_;
    std::atomic<std::uint64_t> served_ = 0;
};

std::string contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string all{std::istreambuf_iterator<char>(file), {}};
    if (!file) throw std::runtime_error("cannot read " + path);
    return all;
}

// The files are read by each worker: a reload takes new ones.
std::shared_ptr<grpc::ServerCredentials> credentials(const v1::WorkerConfig& config) {
    if (config.certificate_file().empty()) return grpc::InsecureServerCredentials();
    grpc::SslServerCredentialsOptions tls;
    tls.pem_key_cert_pairs.push_back(
        {contents(config.key_file()), contents(config.certificate_file())});
    return grpc::SslServerCredentials(tls);
}

cleanfork::unique_fd listener(const cleanfork::call& c, const v1::WorkerConfig& config) {
    if (config.address().empty()) return cleanfork::unique_fd(c.descriptor("listener"));
    bound_socket own = bind_to(config.address(), true);
    start_listening(own.fd);
    return std::move(own.fd);
}

// What clients talk to. gRPC gets its connections from the acceptor.
class public_server {
public:
    public_server(cleanfork::unique_fd listening, const v1::WorkerConfig& config)
        : service_(std::chrono::milliseconds(config.work_ms())) {
        grpc::ServerBuilder builder;
        builder.RegisterService(&service_);
        // Clients leave a connection of this age by themselves, without losing a call:
        // for a new worker's sake, and when this one drains.
        builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS,
                                   static_cast<int>(config.connection_age_ms()));
        using type = grpc::ServerBuilder::experimental_type::ExternalConnectionType;
        connections_ = builder.experimental().AddExternalConnectionAcceptor(type::FROM_FD,
                                                                            credentials(config));
        server_ = builder.BuildAndStart();
        if (!server_) throw std::runtime_error("gRPC does not start");
        acceptor_.emplace(std::move(listening), [this](cleanfork::unique_fd connection) {
            grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters p;
            p.fd = connection.release();
            connections_->HandleNewConnection(&p);
        });
    }

    // True when every connection ended of itself. Shutdown() comes after that: calls
    // that arrive while it tells the clients to go are answered with CANCELLED.
    bool drain(std::chrono::milliseconds grace) {
        const auto give_up = steady::now() + grace;
        acceptor_->stop();
        while (acceptor_->open_connections() != 0 && steady::now() < give_up)
            std::this_thread::sleep_for(k_look_again);
        const bool all_gone = acceptor_->open_connections() == 0;
        server_->Shutdown(std::chrono::system_clock::now() + k_last_calls);
        return all_gone;
    }

    void report(v1::Answer& answer) {
        answer.set_served(service_.served());
        answer.set_connections(acceptor_->open_connections());
    }

private:
    squares service_;
    std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections_;
    std::unique_ptr<grpc::Server> server_;
    std::optional<acceptor> acceptor_;
};

// What the supervisor talks to, over the socket pair: a server of its own, whose one
// connection neither ages nor can be reached from elsewhere.
class control_server final : public v1::Control::Service {
public:
    control_server(cleanfork::unique_fd connection, public_server& served) : served_(served) {
        grpc::ServerBuilder builder;
        builder.RegisterService(this);
        server_ = builder.BuildAndStart();
        if (!server_) throw std::runtime_error("gRPC does not start");
        grpc::AddInsecureChannelFromFd(server_.get(), connection.release());
    }
    ~control_server() override {
        server_->Shutdown(std::chrono::system_clock::now() + k_last_calls);
    }

private:
    grpc::Status Ask(grpc::ServerContext*, const v1::Question*, v1::Answer* answer) override {
        served_.report(*answer);
        return grpc::Status::OK;
    }

    public_server& served_;
    std::unique_ptr<grpc::Server> server_;
};

int serve(cleanfork::call& c) {
    v1::WorkerConfig config;
    if (!config.ParseFromArray(c.payload().data(), static_cast<int>(c.payload().size())))
        throw std::runtime_error("the payload is no WorkerConfig");
    // Before gRPC has threads, which then have it blocked as well.
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &end, nullptr);

    public_server server(listener(c, config), config);
    const control_server control(cleanfork::unique_fd(c.descriptor("control")), server);
    int signal = 0;
    ::sigwait(&end, &signal);
    return server.drain(std::chrono::milliseconds(config.grace_ms())) ? 0 : k_cut_off;
}

const cleanfork::entry entry("serve", serve);

}  // namespace

}  // namespace prefork
