// cleanfork beside gRPC and the full protobuf runtime in one process.
#include <dlfcn.h>
#include <doctest/doctest.h>

#include <cleanfork/client.hpp>
#include <sstream>

#include "tests/helpers/patience.hpp"

using namespace cleanfork;

namespace {

const std::string k_cleanfork = CLEANFORK_TEST_HELPER_DIR "/use_cleanfork.so";
const std::string k_grpc = CLEANFORK_TEST_HELPER_DIR "/use_grpc.so";

run_result load(const std::string& scope, const std::string& first, const std::string& second) {
    return launch().run({.program = CLEANFORK_TEST_HELPER_DIR "/load_modules",
                         .args = {scope, first, second},
                         .out = stdio::pipe{},
                         .err = stdio::pipe{},
                         // The tracer of LeakSanitizer may read what is local to a thread of
                         // gRPC's that is just ending, and crashes then.
                         .env = {.set = {{"CLEANFORK_DAEMON", CLEANFORK_BIN_DIR "/cleanforkd"},
                                         {"ASAN_OPTIONS", "detect_leaks=0"}}}},
                        {}, test::k_patience);
}

void check_works(const run_result& r, const std::string& first, const std::string& second) {
    CHECK(r.err == "");
    CHECK(r.status.to_string() == "exited 0");
    const std::string round = first + " works\n" + second + " works\n";
    CHECK(r.out == round + round);
}

// What `nm` says the library defines for others, demangled.
std::vector<std::string> exported_symbols(const std::string& library) {
    const run_result r = launch().run(
        {.program = "nm",
         .args = {"--dynamic", "--defined-only", "--demangle", "--format=posix", library},
         .out = stdio::pipe{},
         .err = stdio::pipe{}});
    REQUIRE(r.err == "");
    REQUIRE(r.status.success());
    std::vector<std::string> all;
    std::istringstream lines(r.out);
    for (std::string line; std::getline(lines, line);) all.push_back(line);
    return all;
}

std::string without_kind(std::string symbol) {
    for (const std::string kind : {"typeinfo for ", "typeinfo name for ", "vtable for "})
        if (symbol.starts_with(kind)) return symbol.substr(kind.size());
    return symbol;
}

}  // namespace

TEST_CASE("cleanfork and gRPC work in one process, whichever is loaded first and however") {
    for (const std::string scope : {"local", "global"}) {
        CAPTURE(scope);
        check_works(load(scope, k_cleanfork, k_grpc), "use_cleanfork.so", "use_grpc.so");
        check_works(load(scope, k_grpc, k_cleanfork), "use_grpc.so", "use_cleanfork.so");
    }
}

TEST_CASE("the shared library works in a program that has the static one and gRPC") {
    // This program has both. Its own copy is used before, between and after.
    const client own = launch();
    CHECK(own.run({.program = "true"}).status.success());
    for (const std::string& path : {k_cleanfork, k_grpc}) {
        void* const module = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
        REQUIRE_MESSAGE(module != nullptr, ::dlerror());
        void* const use = ::dlsym(module, "use_it");
        REQUIRE(use != nullptr);
        const char* const wrong = reinterpret_cast<const char* (*)()>(use)();
        CHECK_MESSAGE(wrong == nullptr, std::string(wrong != nullptr ? wrong : ""));
        CHECK(own.run({.program = "true"}).status.success());
    }
}

TEST_CASE("the shared library shows its public interface and nothing of protobuf or the wire") {
    const auto symbols = exported_symbols(CLEANFORK_BIN_DIR "/../lib/libcleanfork.so");
    CHECK(symbols.size() > 50);
    for (const std::string& symbol : symbols) {
        CAPTURE(symbol);
        if (symbol.find(" A ") != std::string::npos) continue;  // the name of a version
        CHECK(symbol.find("google::") == std::string::npos);
        CHECK(symbol.find("protobuf") == std::string::npos);
        CHECK(symbol.find("cleanfork::ipc") == std::string::npos);
        CHECK(symbol.find("cleanfork::v1") == std::string::npos);
        const std::string name = without_kind(symbol);
        // Which io_context a thread runs: Asio's, and one for the whole process.
        const bool asio = name.starts_with("boost::asio::detail::keyword_tss_ptr<");
        CHECK((asio || name.starts_with("cleanfork::")));
    }
}
