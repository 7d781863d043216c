#include "tests/integration/attributes/identity_support.hpp"

#include <fcntl.h>
#include <grp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>
#include <system_error>

namespace cleanfork::test {

namespace {

json fields(const std::string& status) {
    json all = json::object();
    std::istringstream lines(status);
    for (std::string line; std::getline(lines, line);) {
        const std::size_t colon = line.find(":\t");
        if (colon == line.npos) continue;
        std::string value = line.substr(colon + 2);
        while (!value.empty() && value.back() == ' ') value.pop_back();
        all[line.substr(0, colon)] = value;
    }
    return all;
}

// Opened before root is given up: another user need not be able to go where the tests are.
unique_fd template_program;

}  // namespace

json to_json(const failure& f) {
    return {{"step", std::string(to_string(f.step))},
            {"errno", f.error_number},
            {"object", f.object},
            {"message", f.message()}};
}

json status_of_spawn(const client& c, spawn_options o) {
    o.program = "/bin/cat";
    o.args = {"/proc/self/status"};
    o.out = stdio::pipe{};
    if (!o.cwd) o.cwd = "/";
    const auto r = c.try_run(o);
    return r ? fields(r->out) : to_json(r.error());
}

json status_of_call(const client& c, const call_options& given) {
    call_options o = given;
    o.result = true;
    o.attributes.cwd = "/";
    const auto r = c.try_run_call("t", "status", {}, o);
    return r ? fields(r->result()) : to_json(r.error());
}

json add_template(const client& c) {
    const auto r = c.try_add_template(
        "t", {.process = {.program = template_program.get(), .argv0 = "t", .cwd = "/"}});
    return r ? json() : to_json(r.error());
}

json after(const std::function<void(const client&)>& change,
           const std::function<json(const client&)>& look, const launch_options& o) {
    template_program = open_program(helper("template_program"));
    return as_user(0, [&] {
        const client c = launch(o);
        change(c);
        return look(c);
    });
}

json after(const std::function<void()>& change, const std::function<json(const client&)>& look) {
    return after([&](const client&) { change(); }, look, {});
}

void must(bool done, const char* what) {
    if (!done) throw std::system_error(errno, std::generic_category(), what);
}

void give_up_root() {
    const gid_t groups[] = {7, 4242};
    must(::setgroups(2, groups) == 0, "setgroups");
    must(::setresgid(k_someone, k_someone, k_someone) == 0, "setresgid");
    must(::setresuid(k_someone, k_someone, k_someone) == 0, "setresuid");
}

void give_up_root_of_this_thread() {
    must(::syscall(SYS_setgroups, 0, nullptr) == 0, "setgroups");
    must(::syscall(SYS_setresgid, k_someone, k_someone, k_someone) == 0, "setresgid");
    must(::syscall(SYS_setresuid, k_someone, k_someone, k_someone) == 0, "setresuid");
}

}  // namespace cleanfork::test
