#include "tests/integration/lifetimes/lifetimes_support.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "ipc/base/sys.hpp"

namespace cleanfork::testing {

std::string line_reader::next() {
    for (;;) {
        if (const std::size_t end = rest_.find('\n'); end != std::string::npos) {
            std::string line = rest_.substr(0, end);
            rest_.erase(0, end + 1);
            return line;
        }
        pollfd p{fd_.get(), POLLIN, 0};
        const int got = ipc::retry([&] { return ::poll(&p, 1, k_patience_ms); });
        REQUIRE_MESSAGE(got == 1, "nothing more comes through the pipe, and it does not end");
        std::array<char, 512> part;
        const ssize_t n = ipc::retry([&] { return ::read(fd_.get(), part.data(), part.size()); });
        REQUIRE(n >= 0);
        if (n == 0) return {};
        rest_.append(part.data(), static_cast<std::size_t>(n));
    }
}

std::optional<test_cgroup> test_cgroup::create() {
    const unique_fd context(::fsopen("cgroup2", FSOPEN_CLOEXEC));
    if (!context || ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
        MESSAGE("not run: no cgroup v2 here");
        return std::nullopt;
    }
    unique_fd root(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
    static int count = 0;
    std::string name =
        "cleanfork-test-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
    if (!root || ::mkdirat(root.get(), name.c_str(), 0755) != 0) {
        MESSAGE("not run: no cgroup can be made here");
        return std::nullopt;
    }
    unique_fd directory(::openat(root.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(bool(directory));
    return test_cgroup(std::move(root), std::move(name), std::move(directory));
}

test_cgroup::~test_cgroup() {
    if (!directory_) return;
    const unique_fd kill(::openat(directory_.get(), "cgroup.kill", O_WRONLY | O_CLOEXEC));
    CHECK(::write(kill.get(), "1", 1) == 1);
    CHECK(empties());
    CHECK(::unlinkat(root_.get(), name_.c_str(), AT_REMOVEDIR) == 0);
}

bool test_cgroup::empties() const {
    const unique_fd events(::openat(directory_.get(), "cgroup.events", O_RDONLY | O_CLOEXEC));
    REQUIRE(bool(events));
    for (;;) {
        std::array<char, 256> text{};
        if (::pread(events.get(), text.data(), text.size() - 1, 0) < 0) return false;
        if (std::string_view(text.data()).find("populated 0") != std::string_view::npos)
            return true;
        pollfd p{events.get(), POLLPRI, 0};
        if (ipc::retry([&] { return ::poll(&p, 1, k_patience_ms); }) <= 0) return false;
    }
}

std::string test_cgroup::read(const char* file) const {
    const unique_fd fd(::openat(directory_.get(), file, O_RDONLY | O_CLOEXEC));
    std::array<char, 4096> text{};
    const ssize_t n = ::read(fd.get(), text.data(), text.size());
    return n > 0 ? std::string(text.data(), static_cast<std::size_t>(n)) : std::string();
}

telling_child spawn_telling(raw_session& s, std::initializer_list<std::string> arguments,
                            const v1::Lifetime& lifetime, int ready, const test_cgroup* cgroup) {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    line_reader lines{unique_fd(ends[0])};
    const unique_fd write_end(ends[1]);
    v1::SpawnRequest r = program({helper_path("lifetimes_child")});
    for (const std::string& a : arguments) r.mutable_exec()->add_argv(a);
    *r.mutable_lifetime() = lifetime;
    map_descriptor(r, 1, STDOUT_FILENO);
    std::vector<int> fds{write_end.get()};
    if (cgroup != nullptr) {
        r.set_cgroup_descriptor(2);
        fds.push_back(cgroup->descriptor());
    }
    telling_child t{s.spawn(r, fds), std::move(lines)};
    for (int i = 0; i < ready; ++i) REQUIRE(t.lines.next() == "ready");
    return t;
}

v1::Lifetime ends_with(int signal, std::uint32_t grace_ms, v1::SignalTarget target) {
    v1::Lifetime l;
    l.set_signal(signal);
    l.set_grace_ms(grace_ms);
    l.set_target(target);
    return l;
}

v1::Lifetime kept() {
    v1::Lifetime l;
    l.set_keep(true);
    return l;
}

std::uint64_t post_wait(raw_session& s, std::uint64_t child) {
    v1::ClientMessage m;
    m.set_request_id(s.next_id());
    m.mutable_wait()->set_child(child);
    const std::uint64_t id = m.request_id();
    REQUIRE(s.send(m));
    return id;
}

v1::Exit exit_of(raw_session& s, std::uint64_t wait_request) {
    const reply r = s.reply_to(wait_request);
    REQUIRE_MESSAGE(r.message.has_wait(), failure_in(r).message());
    return r.message.wait().exit();
}

}  // namespace cleanfork::testing
