// A small batch processor of spans in the manner of a telemetry SDK: a queue, a
// lock, a thread that exports, and a hook for forks that can be left out.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "tests/hazards/scene.hpp"

namespace hazards {

class span_queue {
public:
    // Spans go to `collector`, a line each, when `delay` has passed since the first.
    span_queue(int collector, milliseconds delay) : collector_(collector), delay_(delay) {
        start_thread();
    }
    span_queue(const span_queue&) = delete;
    span_queue& operator=(const span_queue&) = delete;
    ~span_queue() {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        changed_.notify_all();
        thread_->join();
        delete thread_;
    }

    void end_span(const std::string& id) {
        const std::lock_guard lock(mutex_);
        queue_.push_back(id);
        changed_.notify_all();
    }
    // Exports in the calling thread.
    void force_flush() {
        const std::lock_guard lock(mutex_);
        export_all();
    }
    // False when the thread has not exported everything by then.
    bool wait_until_exported(milliseconds bound) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, bound, [&] { return queue_.empty(); });
    }

    // What an SDK registers with pthread_atfork for the child: a queue, a lock and a thread anew.
    void after_fork_in_child() {
        new (&mutex_) std::mutex;
        new (&changed_) std::condition_variable;
        new (&queue_) std::vector<std::string>;  // the parent exports what was in it
        start_thread();
    }

private:
    // On the heap, since after a fork the object can be neither joined nor destroyed.
    void start_thread() {
        thread_ = new std::thread([this] { run(); });
    }
    void run() {
        std::unique_lock lock(mutex_);
        while (!stopping_) {
            changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
            changed_.wait_for(lock, delay_, [&] { return stopping_; });
            export_all();
            changed_.notify_all();
        }
        export_all();  // what came before the end was noticed
    }
    void export_all() {
        std::string lines;
        for (const std::string& id : queue_) lines += id + "\n";
        if (!lines.empty()) write_all(collector_, lines);
        queue_.clear();
    }

    int collector_;
    milliseconds delay_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> queue_;
    bool stopping_ = false;
    std::thread* thread_ = nullptr;
};

}  // namespace hazards
