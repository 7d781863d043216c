// A gRPC server that sends back what it gets, and a caller that checks it: with
// messages of the full protobuf runtime, over a real connection.
#pragma once

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/message_differencer.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "tests/helpers/patience.hpp"

namespace cleanfork::test {

class echo_server {
public:
    echo_server() {
        int port = 0;
        grpc::ServerBuilder builder;
        builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
        builder.RegisterCallbackGenericService(&service_);
        server_ = builder.BuildAndStart();
        if (!server_ || port == 0) throw std::runtime_error("the echo server does not listen");
        address_ = "127.0.0.1:" + std::to_string(port);
    }
    [[nodiscard]] const std::string& address() const noexcept { return address_; }

private:
    class reactor final : public grpc::ServerGenericBidiReactor {
    public:
        reactor() { StartRead(&message_); }

    private:
        void OnReadDone(bool ok) override {
            if (ok)
                StartWriteAndFinish(&message_, grpc::WriteOptions(), grpc::Status::OK);
            else
                Finish({grpc::StatusCode::INVALID_ARGUMENT, "there was no message"});
        }
        void OnDone() override { delete this; }

        grpc::ByteBuffer message_;
    };
    class service final : public grpc::CallbackGenericService {
        grpc::ServerGenericBidiReactor* CreateReactor(
            grpc::GenericCallbackServerContext*) override {
            return new reactor;
        }
    };

    service service_;
    std::unique_ptr<grpc::Server> server_;
    std::string address_;
};

// One thread's connection to the server. Not thread-safe.
class echo_caller {
public:
    explicit echo_caller(const std::string& address) : stub_(new_channel(address)) {}
    ~echo_caller() {
        queue_.Shutdown();
        void* tag = nullptr;
        bool ok = false;
        while (queue_.Next(&tag, &ok)) {
        }
    }
    echo_caller(const echo_caller&) = delete;
    echo_caller& operator=(const echo_caller&) = delete;

    // Empty when what came back is what was sent, else what is wrong.
    std::string call(std::uint64_t number) {
        using google::protobuf::Struct;
        Struct sent, received;
        (*sent.mutable_fields())["number"].set_number_value(static_cast<double>(number));
        (*sent.mutable_fields())["text"].set_string_value(std::string(number % 4096, 'x'));
        grpc::ClientContext context;
        // Once in some hundred programs, with or without a forkserver, gRPC 1.51 takes an old
        // errno for connect(2)'s ("No such file or directory") and would fail the first call.
        context.set_wait_for_ready(!connected_);
        context.set_deadline(std::chrono::system_clock::now() + k_patience);
        grpc::Status status;
        const auto call = stub_.PrepareUnaryCall(&context, "/echo/Echo", sent, &queue_);
        call->StartCall();
        call->Finish(&received, &status, this);
        void* tag = nullptr;
        bool ok = false;
        if (!queue_.Next(&tag, &ok) || !ok || tag != this) return "the call got lost";
        if (!status.ok()) return status.error_message();
        connected_ = true;
        return google::protobuf::util::MessageDifferencer::Equals(sent, received)
                   ? ""
                   : "another message came back: " + received.ShortDebugString();
    }

private:
    static std::shared_ptr<grpc::Channel> new_channel(const std::string& address) {
        grpc::ChannelArguments own;  // else all channels share one connection
        own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
        return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), own);
    }

    bool connected_ = false;
    grpc::TemplatedGenericStub<google::protobuf::Struct, google::protobuf::Struct> stub_;
    grpc::CompletionQueue queue_;
};

}  // namespace cleanfork::test
