// Concurrent gRPC clients that call a server all the time, and count.
//
//     prefork_load --channels 4 --callers 8 127.0.0.1:50051
//
// Each line "NAME COUNT" of standard input ends the phase so far, once it has that many
// calls: it is called NAME, and what became of its calls is printed when the last of
// them has ended. The end of the input ends the phase "end" and the program.
//
// Calls wait for a connection (wait_for_ready). Those that fail with UNAVAILABLE are
// repeated by gRPC's retry policy, and counted; with --no-retry they have failed. Either
// way gRPC itself sends a call again if it knows that no server has seen it.
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>

#include "prefork.grpc.pb.h"

using google::protobuf::UInt64Value;
using prefork::v1::Squares;
using clock_type = std::chrono::steady_clock;

namespace {

struct options {
    std::string address, certificate;
    unsigned channels = 4, callers = 8;
    int deadline = 60;
    bool no_retry = false;
};

// A call belongs to the phase in which it began.
struct phase {
    std::uint64_t begun = 0, ended = 0;
    std::map<std::string, std::uint64_t> failures{};  // by what they say
    std::uint64_t repeated = 0;
    std::set<std::string> workers{};
    std::vector<double> milliseconds{};
};

constexpr const char* k_retry_policy = R"({"methodConfig": [{"name": [{}], "retryPolicy": {
    "maxAttempts": 4, "initialBackoff": "0.01s", "maxBackoff": "0.5s", "backoffMultiplier": 3,
    "retryableStatusCodes": ["UNAVAILABLE"]}}]})";

struct answer {
    std::string wrong{}, worker{};
    bool repeated = false;
};

std::string told(const grpc::ClientContext& context, const char* key) {
    const auto& metadata = context.GetServerInitialMetadata();
    const auto found = metadata.find(key);
    return found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
}

answer call(Squares::Stub& stub, std::uint64_t number, std::chrono::seconds deadline) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(std::chrono::system_clock::now() + deadline);
    UInt64Value request, reply;
    request.set_value(number);
    const grpc::Status status = stub.Square(&context, request, &reply);
    if (!status.ok())
        return {"code " + std::to_string(status.error_code()) + " " + status.error_message()};
    answer a{"", told(context, "worker-pid"), told(context, "attempts-before") != ""};
    if (reply.value() != number * number || a.worker.empty()) a.wrong = "a wrong answer";
    return a;
}

class load {
public:
    explicit load(const options& o) : deadline_(o.deadline) {
        for (unsigned i = 0; i < o.channels; ++i) {
            const auto channel = new_channel(o);
            for (unsigned j = 0; j < o.callers; ++j)
                threads_.emplace_back([this, channel] { work(channel); });
        }
    }

    // Returns when the phase has so many calls, and all of them have ended.
    phase next_phase(std::uint64_t count) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return current_->ended >= count; });
        const auto done = std::exchange(current_, std::make_shared<phase>());
        changed_.wait(lock, [&] { return done->ended == done->begun; });
        return *done;
    }

    phase stop() {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        threads_.clear();
        return *current_;
    }

private:
    static std::shared_ptr<grpc::Channel> new_channel(const options& o) {
        grpc::ChannelArguments own;  // else all channels share one connection
        own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
        own.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
        own.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
        own.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);  // for one attempt to connect
        if (!o.no_retry) own.SetServiceConfigJSON(k_retry_policy);
        if (o.certificate.empty())
            return grpc::CreateCustomChannel(o.address, grpc::InsecureChannelCredentials(), own);
        std::ifstream file(o.certificate);
        grpc::SslCredentialsOptions tls;
        tls.pem_root_certs.assign(std::istreambuf_iterator<char>(file), {});
        return grpc::CreateCustomChannel(o.address, grpc::SslCredentials(tls), own);
    }

    void work(const std::shared_ptr<grpc::Channel>& channel) {
        const auto stub = Squares::NewStub(channel);
        for (;;) {
            std::unique_lock lock(mutex_);
            if (stopping_) return;
            const auto mine = current_;
            ++mine->begun;
            lock.unlock();
            const auto begun = clock_type::now();
            const answer a = call(*stub, next_number_++, deadline_);
            const std::chrono::duration<double, std::milli> took = clock_type::now() - begun;
            lock.lock();
            ++mine->ended;
            mine->repeated += a.repeated;
            mine->milliseconds.push_back(took.count());
            if (a.wrong.empty())
                mine->workers.insert(a.worker);
            else
                ++mine->failures[a.wrong];
            changed_.notify_all();
        }
    }

    const std::chrono::seconds deadline_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::shared_ptr<phase> current_ = std::make_shared<phase>();
    bool stopping_ = false;
    std::atomic<std::uint64_t> next_number_ = 1;
    std::vector<std::jthread> threads_;
};

void print(const std::string& name, phase p) {
    std::uint64_t failed = 0;
    std::ostringstream causes;
    for (const auto& [cause, count] : p.failures) {
        failed += count;
        causes << "; " << count << " x " << cause;
    }
    std::ranges::sort(p.milliseconds);
    const auto percentile = [&](double part) {
        if (p.milliseconds.empty()) return 0.0;
        const auto last = static_cast<double>(p.milliseconds.size() - 1);
        return p.milliseconds[static_cast<std::size_t>(part * last)];
    };
    std::ostringstream line;
    line.precision(1);
    line << std::fixed << "phase " << name << ": " << p.ended << " calls, " << failed << " failed, "
         << p.repeated << " repeated, " << p.workers.size() << " workers, p50 " << percentile(0.5)
         << " ms, p99 " << percentile(0.99) << " ms, max " << percentile(1) << " ms"
         << causes.str();
    std::cout << line.str() << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
    options o;
    CLI::App app("Calls a prefork server from several clients at once, and counts.");
    app.add_option("address", o.address)->required();
    app.add_option("--tls", o.certificate, "the certificate to trust");
    app.add_option("--channels", o.channels, "connections")->check(CLI::Range(1, 1000));
    app.add_option("--callers", o.callers, "calls at a time on each")->check(CLI::Range(1, 1000));
    app.add_flag("--no-retry", o.no_retry, "without a retry policy for UNAVAILABLE");
    app.add_option("--deadline", o.deadline, "of a call, seconds")->check(CLI::Range(1, 3600));
    CLI11_PARSE(app, argc, argv);
    load all(o);
    std::string name;
    for (std::uint64_t count = 0; std::cin >> name >> count;) print(name, all.next_phase(count));
    print("end", all.stop());
}
