// A module that needs gRPC and the full protobuf runtime.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/json_util.h>

#include "tests/grpc/echo.hpp"

namespace {

// Descriptors, reflection and JSON: what the lite runtime lacks, and where a
// file registered twice would be noticed.
std::string full_runtime() {
    using namespace google::protobuf;
    const auto* const pool = DescriptorPool::generated_pool();
    const Descriptor* const type = pool->FindMessageTypeByName("google.protobuf.Struct");
    if (type == nullptr) return "the pool lacks google.protobuf.Struct";
    const std::unique_ptr<Message> message(
        MessageFactory::generated_factory()->GetPrototype(type)->New());
    if (!util::JsonStringToMessage(R"({"a": [1, true, null]})", message.get()).ok())
        return "JSON does not become a message";
    std::string json;
    if (!util::MessageToJsonString(*message, &json).ok() || json != R"({"a":[1,true,null]})")
        return "a message does not become JSON: " + json;
    // The wire of cleanfork is nobody else's business: the lite runtime registers nothing.
    if (pool->FindMessageTypeByName("cleanfork.v1.Hello") != nullptr)
        return "the pool has cleanfork's messages";
    return {};
}

std::string call() {
    const cleanfork::test::echo_server server;
    cleanfork::test::echo_caller caller(server.address());
    return caller.call(100);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const char* use_it() {
    static std::string wrong;
    wrong = full_runtime();
    if (wrong.empty()) wrong = call();
    return wrong.empty() ? nullptr : wrong.c_str();
}
