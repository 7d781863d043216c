#include "tests/hazards/scene.hpp"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cleanfork/template.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <future>
#include <system_error>

#include "tests/helpers/patience.hpp"

namespace hazards {

job::job(std::string name, int (*function)(const task&))
    : name_(std::move(name)), function_(function) {
    const cleanfork::entry entry(name_, [function](cleanfork::call& c) {
        task t{.word = std::string(c.payload())};
        for (const auto& [fd_name, fd] : c.descriptors()) t.fds.emplace(fd_name, fd);
        return function(t);
    });
}

std::string ending::text() const {
    if (!hung) return status.to_string();
    return "hung" + (where.empty() ? "" : " in " + where);
}

namespace {

const milliseconds k_patience_otherwise = cleanfork::test::scaled(20s);
bool impatient = false;  // copied by a fork, and not otherwise

// True unless the process waits for something: a busy machine may keep it from running.
bool is_running(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(file, text);
    const auto end = text.rfind(')');
    return end != std::string::npos && text.at(end + 2) != 'S';
}

// The system call a process sleeps in, as far as it is one of those that wait.
std::string system_call_of(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/syscall");
    long number = -1;
    if (!(file >> number)) return "";
    switch (number) {
        case SYS_futex: return "futex";
        case SYS_read: return "read";
        case SYS_poll: return "poll";
        case SYS_ppoll: return "ppoll";
        case SYS_epoll_wait: return "epoll_wait";
        case SYS_recvfrom: return "recv";
        case SYS_accept: return "accept";
        case SYS_accept4: return "accept";
        case SYS_clock_nanosleep: return "nanosleep";
        default: return "system call " + std::to_string(number);
    }
}

milliseconds left_until(std::chrono::steady_clock::time_point deadline) {
    return std::max(
        0ms, std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now()));
}

}  // namespace

milliseconds bound(milliseconds short_one) {
    return impatient ? short_one : std::max(short_one, k_patience_otherwise);
}

child::child(pid_t forked) : forked_(forked) {
    pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, forked, 0)));
}

child::child(child&& other) noexcept
    : forked_(std::exchange(other.forked_, 0)),
      pidfd_(std::move(other.pidfd_)),
      called_(std::move(other.called_)) {}

child::~child() {
    if (forked_ > 0 || called_.valid()) {
        signal(SIGKILL);
        reap();
    }
}

void child::signal(int number) const {
    boost::system::error_code ended;
    if (forked_ > 0)
        ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
    else
        called_.signal(number, ended);
}

cleanfork::exit_status child::reap() {
    if (const auto p = std::exchange(called_, {}); p.valid()) return p.wait();
    const pid_t pid = std::exchange(forked_, 0);
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return cleanfork::exit_status::unknown("somebody else has waited");
    return cleanfork::exit_status::from_wait_status(status);
}

ending child::wait_until(std::chrono::steady_clock::time_point deadline) {
    ending e;
    e.hung = !readable(pidfd(), left_until(deadline));
    for (int i = 0; e.hung && i < 100 && is_running(id()); ++i) e.hung = !readable(pidfd(), 50ms);
    if (e.hung) {
        e.where = system_call_of(id());
        signal(SIGKILL);
    }
    e.status = reap();
    return e;
}

void scene::prepare() {
    impatient = forks();
    if (way_ != way::cleanfork) return;
    forkserver_ = cleanfork::launch();
    forkserver_.add_template("self", cleanfork::template_options::self());
}

child scene::start(const job& j, const task& t, leave how) const {
    if (!forks()) {
        cleanfork::call_options o{.fds = t.fds};
        o.attributes.out = cleanfork::stdio::inherit{};
        o.attributes.err = cleanfork::stdio::inherit{};
        return child(forkserver_.call("self", j.name(), t.word, o, k_patience_otherwise));
    }
    const pid_t pid = ::fork();
    if (pid < 0) throw std::system_error(errno, std::system_category(), "fork");
    if (pid > 0) return child(pid);
    int code = 70;
    try {
        code = j(t);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "%s: %s\n", j.name().c_str(), e.what());
    }
    if (how == leave::with_exit) std::exit(code);
    ::_exit(code);
}

void scene::tell(const verdict& v) const {
    std::string text = v ? "damaged " + v->kind + ": " + v->evidence : "ok";
    std::replace(text.begin(), text.end(), '\n', '|');
    write_all(results_, text + "\n");
}

void scene::figure(const std::string& name, double value) const {
    write_all(results_, "figure " + name + " " + std::to_string(value) + "\n");
}

void scene::all(const job& j, const task& t, unsigned at_once) const {
    for (unsigned done = 0; done < tries_;) {
        std::vector<child> batch;
        for (; done < tries_ && batch.size() < at_once; ++done) batch.push_back(start(j, t));
        const auto deadline = std::chrono::steady_clock::now() + bound(k_hang);
        for (child& c : batch) {
            const ending e = c.wait_until(deadline);
            if (e.success())
                tell({});
            else
                tell(damage{e.hung ? "hung" : "failed", "the child: " + e.text()});
        }
    }
}

void scene::end_here() const {
    write_all(results_, "done\n");
    std::_Exit(0);
}

std::vector<hazard>& registration::all() {
    static std::vector<hazard> hazards;
    return hazards;
}

registration::registration(hazard h) { all().push_back(std::move(h)); }

std::optional<std::string> bounded(std::function<std::string()> function, milliseconds limit) {
    auto promise = std::make_shared<std::promise<std::string>>();
    std::future<std::string> answer = promise->get_future();
    std::thread([promise, f = std::move(function)] { promise->set_value(f()); }).detach();
    if (answer.wait_for(limit) != std::future_status::ready) return {};
    return answer.get();
}

void spin(std::chrono::microseconds duration) {
    const auto end = std::chrono::steady_clock::now() + duration;
    while (std::chrono::steady_clock::now() < end) {
    }
}

}  // namespace hazards
