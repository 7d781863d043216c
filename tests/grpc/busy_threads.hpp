// Threads that do nothing but gRPC calls, and each of them checks its own.
#pragma once

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/grpc/echo.hpp"

namespace cleanfork::test {

class busy_threads {
public:
    // Returns once each of the threads has had an answer.
    explicit busy_threads(unsigned count) : running_(count) {
        for (unsigned i = 0; i < count; ++i) threads_.emplace_back([this] { work(); });
        for (unsigned left = running_; left != 0; left = running_) running_.wait(left);
    }
    busy_threads(const busy_threads&) = delete;
    busy_threads& operator=(const busy_threads&) = delete;
    ~busy_threads() {
        stopping_ = true;
        threads_.clear();
    }

    // Calls that were answered rightly so far.
    [[nodiscard]] std::uint64_t calls() const noexcept { return calls_; }
    // What was wrong with a call, empty when nothing was.
    [[nodiscard]] std::string complaint() const {
        const std::lock_guard lock(mutex_);
        return complaint_;
    }

private:
    void work() {
        echo_caller caller(server_.address());
        bool counted = false;
        for (std::uint64_t number = 0; !stopping_; ++number) {
            const std::string wrong = caller.call(number);
            if (!std::exchange(counted, true)) {
                --running_;
                running_.notify_all();
            }
            if (!wrong.empty()) {
                const std::lock_guard lock(mutex_);
                complaint_ = wrong;
                return;
            }
            ++calls_;
        }
    }

    echo_server server_;
    std::atomic<unsigned> running_;  // not yet answered
    std::atomic<bool> stopping_ = false;
    std::atomic<std::uint64_t> calls_ = 0;
    mutable std::mutex mutex_;
    std::string complaint_;
    std::vector<std::jthread> threads_;
};

}  // namespace cleanfork::test
