// Templates: warmed-up processes from which children are forked; and calls of
// their entries.
//
//     client.add_template("thumbnails", {.process = {.program = "./thumbnailer"}, .warm = 4});
//     cleanfork::call_result r =
//         client.run_call("thumbnails", "scale", image, {.args = {"200"}, .result = true});
//     if (r.status.success()) publish(r.result());
//
// Ownership: payloads, and every `int` descriptor, are borrowed until the call
// returns (asynchronous: until the initiating function returns).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cleanfork/failure.hpp>
#include <cleanfork/reports.hpp>
#include <cleanfork/spawn_options.hpp>
#include <cleanfork/unique_fd.hpp>
#include <concepts>
#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace cleanfork {

// ---- calls -----------------------------------------------------------------

namespace detail {
template <class T>
concept text = std::convertible_to<const T&, std::string_view>;
template <class T>
concept bytes = !text<T> && requires(const T& t) {
    std::as_bytes(std::span(t));
    requires sizeof(*std::data(t)) == 1;
};
}  // namespace detail

// What an entry gets to work on: a string, a range of bytes, or all of a memfd
// or regular file by its descriptor. Bytes above 32 KiB are copied once, into a
// memfd; a file is not copied at all. The forkserver reads neither.
class payload {
public:
    payload() noexcept = default;
    template <detail::text Text>
    payload(const Text& text) noexcept : content_(std::string_view(text)) {}
    template <detail::bytes Bytes>
    payload(const Bytes& range) noexcept
        : content_(std::string_view(reinterpret_cast<const char*>(std::data(range)),
                                    std::size(range))) {}
    payload(stdio::descriptor file) noexcept : content_(file) {}
    payload(std::nullptr_t) = delete;

    [[nodiscard]] const std::variant<std::string_view, stdio::descriptor>& content()
        const noexcept {
        return content_;
    }

private:
    std::variant<std::string_view, stdio::descriptor> content_;
};

struct call_options {
    std::vector<std::string> args{};
    // Descriptors of the caller which the entry asks for by name. Their numbers in the child
    // are the lowest from 3 that `attributes` leaves free, or above those of the template's files.
    std::map<std::string, int> fds{};
    // The entry may answer with bytes: process::take_result(), call_result::result().
    bool result = false;
    // Its caller is told when the entry has returned, before its process has ended:
    // process::wait_answer(). The bytes of the result are final by then.
    bool answer = false;
    // A child that this session has been given in advance may run it, when there is one. It is
    // one of the same template and attributes; false: the forkserver is asked for a child.
    bool leased = true;
    // Everything but program, args and argv0, which a call does not have:
    // step::request when one is set.
    spawn_options attributes{};
};

// All of what an entry answered, of the descriptor that process::take_result()
// gave; read(2) would begin where the entry's last write ended. The bytes are
// final once the child has ended. Throws spawn_error.
CLEANFORK_EXPORT std::string read_result(int fd);

// What client::run_call() gathers.
struct CLEANFORK_EXPORT call_result : run_result {
    std::string error{};    // the exception the entry ended with; empty: none
    unique_fd result_fd{};  // a memfd with the answer; empty without call_options::result

    // A copy of the answer. For a large one: map `result_fd`, or give it to the
    // next call as its payload. It is sealed, unless a descendant of the child
    // still has it mapped for writing.
    [[nodiscard]] std::string result() const {
        return result_fd ? read_result(result_fd.get()) : "";
    }
};

// ---- templates -------------------------------------------------------------

struct template_options {
    // The program that becomes the template, and its attributes; standard streams
    // are no pipes. With `from` the attributes alone.
    spawn_options process{};
    // The program is this very one, by descriptor: it may have been replaced on disk.
    bool own_program = false;

    // A template derived from another: a child of that one, in which `initializer`,
    // one of its entries, loads further. It shares the memory of its base.
    std::string from{};
    std::string initializer{};
    std::vector<std::string> initializer_args{};
    std::map<std::string, int> initializer_fds{};
    std::variant<std::string, stdio::descriptor> initializer_payload{};

    // Children forked ahead of time.
    unsigned warm = 0;
    // So many more, for all sessions together, are given to those that call it again and again;
    // their calls then do not go through the forkserver. Nothing: as many as `warm`.
    std::optional<unsigned> leases{};
    // For the initialization; 0: a minute.
    std::chrono::milliseconds start_timeout{};
    // For a child to take its request; 0: ten seconds.
    std::chrono::milliseconds call_timeout{};
    // Return when it is ready, or has failed; false: when its start was asked for.
    bool wait = true;
    // Numbers of descriptors in the template that are harmless to share.
    std::vector<int> allowed_descriptors{};
    // Tell what is unclean (template_info), but do not refuse.
    bool tolerate_unclean = false;
    // It is removed when the session of this client ends; its children are left alone. Otherwise
    // it stays for the forkserver's other clients.
    bool ends_with_session = false;
    // One of that name that is ready, or starts, is left as it is, whatever it was added with:
    // template_info::was_there. Programs that share a forkserver can both add what they share.
    bool unless_there = false;
    // Its heap in huge pages, by the C library (glibc 2.35, GLIBC_TUNABLES): a fork copies fewer
    // page table entries. Not with `from`: the heap is then the base's.
    bool huge_pages = false;

    // This program as its own template: cleanfork::template_main() must be the
    // first statement of its main(). Keeps argv[0].
    CLEANFORK_EXPORT static template_options self();
    CLEANFORK_EXPORT static template_options derived(
        std::string base, std::string initializer,
        std::variant<std::string, stdio::descriptor> payload = {});
};

enum class template_state {
    unknown,
    starting,
    ready,
    refused,   // it is not clean
    failed,    // it ended, or its initialization failed
    draining,  // replaced by a newer generation; children are left
};
CLEANFORK_EXPORT std::string_view to_string(template_state s) noexcept;

// Of /proc/PID/smaps_rollup.
struct process_memory {
    std::uint64_t rss_kib = 0;
    std::uint64_t pss_kib = 0;            // shared pages count in parts
    std::uint64_t private_dirty_kib = 0;  // what would be free if it ended
};

// The memory of a process of this user; empty when it ended or may not be read.
// The kernel walks its page tables: tens of milliseconds for 4 GiB.
CLEANFORK_EXPORT std::optional<process_memory> memory_of(pid_t pid);

// One build of a template.
struct CLEANFORK_EXPORT generation_info {
    unsigned generation = 0;
    template_state state = template_state::unknown;
    pid_t pid = 0;
    std::chrono::nanoseconds age{};
    std::chrono::nanoseconds initialization{};
    unsigned threads = 0;
    std::uint64_t children = 0;
    std::uint64_t leased = 0;  // children that wait for a call of their session
    std::vector<pid_t> warm_pids;
    // Its descriptors that harm no child: those of the loop, and those it was added with.
    std::vector<int> declared_descriptors;
    std::string unclean;      // what is unclean and tolerated
    std::string stderr_tail;  // the end of what it wrote to standard error

    // Of the template; read when called, as memory_of() says.
    [[nodiscard]] std::optional<process_memory> memory() const;
    // Of its warm children together, without those that have been taken since;
    // empty when there is none.
    [[nodiscard]] std::optional<process_memory> warm_memory() const;
};

struct template_info {
    std::string name;
    std::string command;
    std::string from;                                // empty: not derived
    template_state state = template_state::unknown;  // of the generation that calls go to
    unsigned generation = 0;                         // 0: there was none yet
    unsigned warm_wanted = 0;
    std::optional<failure> last_error;  // of the newest generation that failed
    std::string stderr_tail;            // the end of what that one wrote
    std::uint64_t restarts = 0;
    std::uint64_t calls_total = 0;
    std::uint64_t waiting = 0;                 // calls that wait for it to start
    std::chrono::milliseconds retry_in{};      // until the next start after a failure
    std::vector<generation_info> generations;  // newest first
    // Of an add_template() with `unless_there`: another has added it, and nothing was started.
    bool was_there = false;

    // The one that calls go to; null when there is none.
    [[nodiscard]] const generation_info* current() const noexcept {
        for (const generation_info& g : generations)
            if (g.generation == generation) return &g;
        return nullptr;
    }
};

}  // namespace cleanfork
