// A C++ program as a template: what it registered, and its main.
#include "forkserver/template/program.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cleanfork/template.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>
#include <stdexcept>
#include <system_error>

#include "forkserver/template/host.hpp"
#include "forkserver/template/loop.hpp"
#include "forkserver/template/order.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork {

namespace templates {

program_host& program_host::instance() {
    static program_host all;
    return all;
}

void program_host::add_entry(std::string name, std::function<int(call&)> f) {
    if (!entries_.emplace(name, std::move(f)).second)
        throw std::invalid_argument("two entries have the name " + name);
}

void program_host::add_initializer(std::string name, std::function<void(call&)> f) {
    if (!initializers_.emplace(name, std::move(f)).second)
        throw std::invalid_argument("two initializers have the name " + name);
}

void program_host::initialize() const {
    for (const auto& hook : initialization_) hook();
}

std::vector<std::string> program_host::entries() const {
    std::vector<std::string> names;
    for (const auto& [name, f] : entries_) names.push_back(name);
    return names;
}

bool program_host::has_entry(std::string_view name) const {
    return entries_.find(name) != entries_.end();
}

bool program_host::has_initializer(std::string_view name) const {
    return initializers_.find(name) != initializers_.end();
}

void program_host::flush() {
    std::cout.flush();
    std::cerr.flush();
    std::clog.flush();
    std::fflush(nullptr);
}

void program_host::in_child() {
    unsigned short seed[3 + 2];
    if (::getrandom(seed, sizeof seed, 0) == sizeof seed) {
        unsigned whole;
        std::memcpy(&whole, seed + 3, sizeof whole);
        std::srand(whole);  // random() has the same state
        ::seed48(seed);
    }
    for (const auto& hook : child_hooks_) hook();
}

int program_host::run(const task& t) {
    call c(t);
    return entries_.find(t.entry)->second(c);
}

void program_host::derive(const task& t) {
    call c(t);
    initializers_.find(t.entry)->second(c);
}

}  // namespace templates

using templates::program_host;

std::string_view call::entry() const noexcept { return task_.entry; }
std::string_view call::payload() const noexcept { return task_.payload; }
const std::vector<std::string_view>& call::arguments() const noexcept { return task_.arguments; }
const std::vector<std::pair<std::string_view, int>>& call::descriptors() const noexcept {
    return task_.descriptors;
}
bool call::answer_is_wanted() const noexcept { return task_.result_fd >= 0; }

int call::descriptor(std::string_view name) const {
    std::string known;
    for (const auto& [n, fd] : task_.descriptors) {
        if (n == name) return fd;
        known += (known.empty() ? "" : ", ") + std::string(n);
    }
    throw std::out_of_range("no descriptor \"" + std::string(name) + "\" came with the call; " +
                            (known.empty() ? "there are none" : "there are: " + known));
}

void call::respond(std::string_view bytes) const {
    if (task_.result_fd < 0) return;
    while (!bytes.empty()) {
        const ssize_t n =
            ipc::retry([&] { return ::write(task_.result_fd, bytes.data(), bytes.size()); });
        if (n < 0) throw std::system_error(errno, std::system_category(), "the answer of a call");
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
}

entry::entry(std::string name, std::function<int(call&)> function) {
    program_host::instance().add_entry(std::move(name), std::move(function));
}

initialization::initialization(std::function<void()> hook) {
    program_host::instance().add_initialization(std::move(hook));
}

initializer::initializer(std::string name, std::function<void(call&)> function) {
    program_host::instance().add_initializer(std::move(name), std::move(function));
}

child_hook::child_hook(std::function<void()> hook) {
    program_host::instance().add_child_hook(std::move(hook));
}

void keep_from_children(void* begin, std::size_t size) {
    // Only what is wholly inside: the rest of a page may be somebody else's.
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto first = (reinterpret_cast<std::uintptr_t>(begin) + page - 1) / page * page;
    const auto last = (reinterpret_cast<std::uintptr_t>(begin) + size) / page * page;
    if (last <= first) return;
    if (::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTFORK) != 0)
        throw std::system_error(errno, std::system_category(), "madvise MADV_DONTFORK");
}

void close_in_children(int descriptor) { program_host::instance().close_in_children(descriptor); }

bool started_as_template() noexcept {
    return std::getenv(templates::k_control_variable) != nullptr;
}

void template_main(int, char** argv) {
    const char* text = std::getenv(templates::k_control_variable);
    if (text == nullptr) return;
    int control = -1;
    const auto parsed = std::from_chars(text, text + std::strlen(text), control);
    if (parsed.ec != std::errc() || *parsed.ptr != '\0' ||
        ::fcntl(control, F_SETFD, FD_CLOEXEC) != 0) {
        std::fprintf(stderr, "%s: %s=%s is no descriptor: only cleanforkd sets it\n", argv[0],
                     templates::k_control_variable, text);
        std::_Exit(2);
    }
    ::unsetenv(templates::k_control_variable);
    program_host& host = program_host::instance();
    templates::initialize_and_serve(control, host, [&host] { host.initialize(); });
}

}  // namespace cleanfork
