// What a client knows of one child; shared by its handles, its waits and the connection.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <memory>
#include <optional>
#include <vector>

#include "client/src/connection/blocking.hpp"
#include "client/src/connection/connection.hpp"
#include "ipc/base/process_ref.hpp"

namespace cleanfork::detail {

// What the forkserver told of it when it started.
struct child_traits {
    tree_means tree = tree_means::none;
    bool restarts = false;  // the pidfd is that of its first process
};

// Thread-safe. The connection's lock protects what changes.
class child_state final : public exit_listener, public std::enable_shared_from_this<child_state> {
public:
    child_state(std::shared_ptr<connection> c, ipc::child_id id, ipc::process_ref p,
                child_traits traits)
        : owner_(std::move(c)), id_(id), process_(std::move(p)), traits_(traits) {}

    [[nodiscard]] connection& owner() const noexcept { return *owner_; }
    [[nodiscard]] ipc::child_id id() const noexcept { return id_; }
    [[nodiscard]] const child_traits& traits() const noexcept { return traits_; }
    // Without a pidfd when the exit came with the reply.
    [[nodiscard]] const ipc::process_ref& process() const noexcept { return process_; }

    // Blocks until the child has ended; nullopt at the deadline, or when interrupted.
    std::optional<exit_status> wait(const deadline& d, const meanwhile& work = {});
    // The status if it is known, or can be without blocking.
    std::optional<exit_status> known();
    // What was told of the end; nullopt before.
    [[nodiscard]] std::optional<wait_result> end() const;
    void start_wait(wait_handler handler);

    // Of a call: its words come through this pipe. Before anybody waits for one; ...
    void hear(unique_fd words) noexcept { words_ = std::move(words); }
    [[nodiscard]] bool hears() const noexcept { return bool(words_); }
    // ... and what was read from it already.
    void heard(std::string_view bytes) { take_words(owner_->lock(), bytes); }
    // It was leased, and has its call from now on: what it did before is not the caller's.
    void called() { shared_(owner_->lock()).called = steady::now(); }
    // Blocks until its entry has returned; nullopt at the deadline, and when it has ended without.
    std::optional<call_answer> wait_answer(const deadline& d);

    result<void> signal(int number) const;

    void ended(wait_result&& end) override;
    void orphaned() override;
    std::list<pending_wait> give_up_waits(const tables_lock& held) override;

private:
    class blocked_wait;
    using stream_descriptor = boost::asio::posix::stream_descriptor;

    struct shared {
        shared() = default;
        shared(const shared&) = delete;
        shared& operator=(const shared&) = delete;
        // In a forked copy it stays in the original's reactor.
        ~shared() {
            if (!creator.is_this()) (void)watch.release();
        }

        const owning_process creator{};
        std::optional<wait_result> end;
        std::string words;  // of which the last is not whole
        std::optional<call_answer> answer;
        std::optional<steady::time_point> called;  // of a leased one
        std::vector<waiter*> waiters;              // blocked threads
        std::list<pending_wait> waits;             // handlers; these do not move
        std::uint64_t next_wait = 1;
        // Once the forkserver is lost: watches the pidfd for the asynchronous waits.
        std::unique_ptr<stream_descriptor> watch;
    };
    // What is told and destroyed once the lock is free.
    struct leftovers {
        std::list<pending_wait> waits{};
        boost::system::error_code why{};
        std::unique_ptr<stream_descriptor> watch{};

        void tell(const exit_status& s = {});
    };

    void take_words(const tables_lock& held, std::string_view bytes);
    bool read_words(const tables_lock& held);
    [[nodiscard]] std::optional<exit_status> told() const;
    [[nodiscard]] std::optional<exit_status> wait_by_pidfd(const deadline& d,
                                                           const meanwhile& work);
    [[nodiscard]] exit_status status_by_pidfd() const;
    leftovers add_wait(const tables_lock& held, const any_io_executor& io, wait_handler&& handler);
    void cancel_wait(std::uint64_t number);
    leftovers watch_pidfd(const tables_lock& held);
    void on_pidfd(boost::system::error_code ec);

    const std::shared_ptr<connection> owner_;
    const ipc::child_id id_;
    const ipc::process_ref process_;
    const child_traits traits_;
    unique_fd words_;
    mutable locked_by<shared, connection_tables> shared_;
};

// The process of a spawn that was answered: `id` and `p` are the child's, `ends` the caller's.
process adopt(connection& c, ipc::child_id id, ipc::process_ref p, parent_ends&& ends,
              child_traits traits = {});
// The same of one that has ended already.
process adopt_ended(connection& c, ipc::child_id id, ipc::process_ref p, parent_ends&& ends,
                    child_traits traits, wait_result&& end);

}  // namespace cleanfork::detail
