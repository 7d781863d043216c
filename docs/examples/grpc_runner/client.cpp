// Runs a program on a runner server as if it were here: its input, output and
// exit status are ours. An interrupt ends us, which cancels the call, which
// kills the program.
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <iostream>
#include <optional>
#include <system_error>
#include <thread>

#include "runner.grpc.pb.h"

using runner::v1::RunReply, runner::v1::RunRequest, runner::v1::Runner;

namespace {

constexpr std::size_t k_chunk = 64 * 1024;
// As a shell does, and 125 when it is not the program's own.
constexpr int k_no_answer = 125, k_cannot_run = 126, k_not_found = 127, k_signal_base = 128;

using stream_type = grpc::ClientReaderWriter<RunRequest, RunReply>;

struct options {
    std::string address;
    std::vector<std::string> command;
    std::vector<std::string> env;
    bool clear_env = false;
    std::string cwd;
    double timeout = 0;
    bool verbose = false;
};

// Our standard input to the program's, until `stop` becomes readable.
void feed(stream_type& stream, int stop) {
    for (;;) {
        pollfd ready[] = {{STDIN_FILENO, POLLIN, 0}, {stop, POLLIN, 0}};
        if (::poll(ready, 2, -1) < 0 && errno != EINTR) return;
        if (ready[1].revents != 0) return;
        if (ready[0].revents == 0) continue;
        RunRequest request;
        std::string& input = *request.mutable_input();
        input.resize(k_chunk);
        const ssize_t size = ::read(STDIN_FILENO, input.data(), input.size());
        if (size <= 0) break;
        input.resize(static_cast<std::size_t>(size));
        if (!stream.Write(request)) return;
    }
    stream.WritesDone();
}

bool write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t size = ::write(fd, bytes.data(), bytes.size());
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(size));
    }
    return true;
}

int report_end(const runner::v1::Finished& end, int pid, bool verbose) {
    if (verbose)
        std::fprintf(stderr, "grpc_runner_client: pid %d %s, wall %.1f ms, cpu %.1f ms, %.1f MiB\n",
                     pid, end.text().c_str(), static_cast<double>(end.wall_us()) / 1e3,
                     static_cast<double>(end.user_us() + end.system_us()) / 1e3,
                     static_cast<double>(end.max_rss_kib()) / 1024);
    if (end.has_code()) return end.code();
    return end.has_signal() ? k_signal_base + end.signal() : k_no_answer;
}

int report_failure(const runner::v1::Failed& failed) {
    std::cerr << "grpc_runner_client: " << failed.message() << '\n';
    if (failed.step() != "exec") return k_no_answer;
    return failed.error_number() == ENOENT ? k_not_found : k_cannot_run;
}

// Until the last message; the exit code, or nothing when there was no end.
std::optional<int> receive(stream_type& stream, grpc::ClientContext& context, bool verbose) {
    std::optional<int> code;
    int pid = 0;
    RunReply reply;
    while (stream.Read(&reply)) {
        if (reply.has_started()) pid = reply.started().pid();
        // Nobody reads what the program writes: nobody needs it to go on.
        if (reply.has_out() && !write_all(STDOUT_FILENO, reply.out())) context.TryCancel();
        if (reply.has_err() && !write_all(STDERR_FILENO, reply.err())) context.TryCancel();
        if (reply.has_finished()) code = report_end(reply.finished(), pid, verbose);
        if (reply.has_failed()) code = report_failure(reply.failed());
    }
    return code;
}

RunRequest start_request(const options& o) {
    RunRequest request;
    runner::v1::Start& start = *request.mutable_start();
    start.set_program(o.command.front());
    start.mutable_args()->Add(o.command.begin() + 1, o.command.end());
    start.mutable_env()->Add(o.env.begin(), o.env.end());
    start.set_clear_env(o.clear_env);
    start.set_cwd(o.cwd);
    return request;
}

int run(const options& o) {
    const auto stub =
        Runner::NewStub(grpc::CreateChannel(o.address, grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    if (o.timeout > 0)
        context.set_deadline(std::chrono::system_clock::now() +
                             std::chrono::duration_cast<std::chrono::milliseconds>(
                                 std::chrono::duration<double>(o.timeout)));
    const std::unique_ptr<stream_type> stream = stub->Run(&context);
    stream->Write(start_request(o));

    int stop[2];
    if (::pipe2(stop, O_CLOEXEC) != 0)
        throw std::system_error(errno, std::system_category(), "pipe");
    std::jthread feeder([&] { feed(*stream, stop[0]); });
    const std::optional<int> code = receive(*stream, context, o.verbose);
    ::close(stop[1]);
    feeder.join();
    ::close(stop[0]);
    const grpc::Status status = stream->Finish();
    if (code) return *code;
    std::cerr << "grpc_runner_client: " << status.error_message() << '\n';
    return k_no_answer;
}

}  // namespace

int main(int argc, char** argv) try {
    options o;
    CLI::App app(
        "grpc_runner_client [OPTIONS] ADDRESS PROGRAM [ARG...]\n"
        "Runs a program on a runner server; exits as the program did.");
    app.add_option("address", o.address, "where the server listens")->required();
    app.add_option("-E,--setenv", o.env, "NAME=VALUE for the program")->expected(1)->take_all();
    app.add_flag("-i,--ignore-environment", o.clear_env, "only the variables of --setenv");
    app.add_option("-C,--chdir", o.cwd, "working directory");
    app.add_option("--timeout", o.timeout, "seconds, then the program is killed");
    app.add_flag("-v,--verbose", o.verbose, "say how it ended, on standard error");
    app.prefix_command();  // what follows the program is the program's
    CLI11_PARSE(app, argc, argv);
    o.command = app.remaining();
    if (!o.command.empty() && o.command.front() == "--") o.command.erase(o.command.begin());
    if (o.command.empty()) return app.exit(CLI::RequiredError("PROGRAM"));
    return run(o);
} catch (const std::exception& e) {
    std::cerr << "grpc_runner_client: " << e.what() << '\n';
    return k_no_answer;
}
