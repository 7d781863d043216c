// Keeps so many workers serving: restarts those that die, replaces them by a new
// generation, drains those that are too many. One thread, that of its executor; the
// answers of gRPC, which come on others, are posted to it.
#pragma once

#include <grpcpp/support/status.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cleanfork/client.hpp>
#include <functional>
#include <list>
#include <memory>
#include <string>

#include "prefork.pb.h"

namespace prefork {

struct worker;

struct supervisor_options {
    std::string template_name;
    v1::WorkerConfig config;
    int listener = -1;  // borrowed: passed to each worker; -1: each binds its own
    unsigned workers = 2;
    unsigned generation = 1;  // of the template
    std::chrono::milliseconds start_timeout = std::chrono::seconds(30);
    std::chrono::milliseconds backoff = std::chrono::milliseconds(50);  // doubles
    std::chrono::milliseconds backoff_limit = std::chrono::seconds(5);
    // A worker that served as long has not failed to start when it dies.
    std::chrono::milliseconds stable = std::chrono::seconds(1);
    std::chrono::milliseconds probe_interval = std::chrono::milliseconds(200);
    std::chrono::milliseconds probe_timeout = std::chrono::seconds(15);
};

class supervisor {
public:
    using executor = boost::asio::any_io_executor;

    // `tell` gets a line for each event; `ended` is called after stop(), when no
    // worker is left.
    supervisor(executor ex, const cleanfork::client& forkserver, supervisor_options options,
               std::function<void(const std::string&)> tell, std::function<void()> ended);
    ~supervisor();

    void start() { reconcile(); }
    // One more, one less, at least one.
    void resize(int difference);
    // A new generation of the template; when that is ready, each old worker is drained
    // once a new one serves. When it is not, everything stays as it is.
    void reload();
    // Drains all; the second time kills all.
    void stop();

private:
    using worker_ptr = std::shared_ptr<worker>;

    void reconcile();
    void start_worker(unsigned failures);
    void started(const worker_ptr& w, const std::exception_ptr& failed, cleanfork::process p);
    void ask(const worker_ptr& w, std::chrono::milliseconds timeout);
    void answered(const worker_ptr& w, const grpc::Status& status);
    void ask_again(const worker_ptr& w);
    void drain(const worker_ptr& w);
    void kill_after(const worker_ptr& w, std::chrono::milliseconds time, const char* why);
    void ended(const worker_ptr& w, const std::string& how);
    void start_again(const worker& w);
    void say(const worker& w, const std::string& what) const;
    [[nodiscard]] worker_ptr superfluous() const;
    void tell_when_settled();
    void end_when_empty();

    const executor executor_;
    const cleanfork::client& forkserver_;
    const supervisor_options options_;
    const std::function<void(const std::string&)> tell_;
    const std::function<void()> ended_;
    std::list<worker_ptr> workers_;
    std::list<boost::asio::steady_timer> restarts_;  // those that wait for their time
    unsigned wanted_, generation_;
    unsigned next_number_ = 1;
    std::uint64_t answers_ = 0;  // over the workers' own channels
    unsigned asking_ = 0;
    bool settled_ = false, stopping_ = false, reloading_ = false, reload_again_ = false;
};

}  // namespace prefork
