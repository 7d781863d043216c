// A prefork gRPC server: one port, N worker processes, and a supervisor that uses gRPC
// itself while it starts, drains and restarts them.
//
//     prefork_server --listen shared --workers 4 127.0.0.1:50051
//
// SIGTERM drains all workers and ends, SIGHUP replaces them by a new generation,
// SIGTTIN and SIGTTOU make them one more or one less.
#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <cleanfork/client.hpp>
#include <cleanfork/template.hpp>
#include <csignal>
#include <filesystem>
#include <iostream>

#include "sockets.hpp"
#include "supervisor.hpp"

namespace asio = boost::asio;

namespace {

struct options {
    std::string address;
    std::string listen = "shared";
    std::vector<std::string> tls;
    unsigned workers = 2;
    unsigned age_ms = 10'000, grace_ms = 30'000, work_ms = 0;
};

prefork::supervisor_options supervisor_options(const options& o, const prefork::bound_socket& port,
                                               unsigned generation) {
    prefork::supervisor_options s;
    s.template_name = "worker";
    s.workers = o.workers;
    s.generation = generation;
    const bool shared = o.listen == "shared";
    if (shared) s.listener = port.fd.get();
    if (!shared) s.config.set_address(port.address);
    if (!o.tls.empty()) {
        s.config.set_certificate_file(std::filesystem::absolute(o.tls[0]).string());
        s.config.set_key_file(std::filesystem::absolute(o.tls[1]).string());
    }
    s.config.set_connection_age_ms(o.age_ms);
    s.config.set_grace_ms(o.grace_ms);
    s.config.set_work_ms(o.work_ms);
    return s;
}

// By its path, so that a reload takes the program that is there by then.
cleanfork::template_options worker_template() {
    cleanfork::template_options t;
    t.process.program = std::filesystem::read_symlink("/proc/self/exe").string();
    t.process.err = cleanfork::stdio::inherit{};
    return t;
}

void on_signal(asio::signal_set& signals, prefork::supervisor& supervisor) {
    signals.async_wait([&](boost::system::error_code ec, int number) {
        if (ec) return;
        switch (number) {
            case SIGHUP: supervisor.reload(); break;
            case SIGTTIN: supervisor.resize(1); break;
            case SIGTTOU: supervisor.resize(-1); break;
            default: supervisor.stop(); break;
        }
        on_signal(signals, supervisor);
    });
}

int serve(const options& o) {
    std::signal(SIGPIPE, SIG_IGN);
    asio::io_context io(1);
    const cleanfork::client forkserver = cleanfork::launch(io.get_executor());
    const unsigned generation = forkserver.add_template("worker", worker_template()).generation;

    // Held as long as the server lives: with "shared" it is the one that listens, with
    // "reuseport" it keeps the port when there is no worker.
    const prefork::bound_socket port = prefork::bind_to(o.address, o.listen != "shared");
    if (o.listen == "shared") prefork::start_listening(port.fd);
    asio::signal_set signals(io, SIGTERM, SIGINT, SIGHUP);
    signals.add(SIGTTIN);
    signals.add(SIGTTOU);
    prefork::supervisor supervisor(
        io.get_executor(), forkserver, supervisor_options(o, port, generation),
        [](const std::string& line) { std::cout << line << std::endl; }, [&] { io.stop(); });
    on_signal(signals, supervisor);
    std::cout << "listening on " << port.address << std::endl;
    supervisor.start();
    io.run();
    return 0;
}

}  // namespace

int main(int argc, char** argv) try {
    cleanfork::template_main(argc, argv);  // does not return in the template
    options o;
    CLI::App app("A gRPC server of several processes.");
    app.add_option("address", o.address, "HOST:PORT, numeric; port 0 takes a free one")->required();
    app.add_option("--listen", o.listen,
                   "shared: one socket, passed to all workers; reuseport: "
                   "each binds its own")
        ->check(CLI::IsMember({"shared", "reuseport"}));
    app.add_option("--workers", o.workers)->check(CLI::Range(1, 1000));
    app.add_option("--tls", o.tls, "CERTIFICATE KEY: files, read by each worker")->expected(2);
    app.add_option("--connection-age", o.age_ms, "ms after which clients connect anew");
    app.add_option("--grace", o.grace_ms, "ms that a worker has to drain");
    app.add_option("--work", o.work_ms, "ms that each request takes");
    CLI11_PARSE(app, argc, argv);
    return serve(o);
} catch (const std::exception& e) {
    std::cerr << "prefork_server: " << e.what() << '\n';
    return 1;
}
