#include "ipc/base/find_daemon.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cleanfork/unique_fd.hpp>
#include <filesystem>

#include "tests/unit/environment_variable.hpp"

using namespace cleanfork;
using namespace cleanfork::ipc;

namespace {

using places = std::vector<std::string>;

// A directory of its own, removed with what is in it.
class scratch_directory {
public:
    scratch_directory() {
        std::string name = (std::filesystem::temp_directory_path() / "daemon.XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~scratch_directory() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    scratch_directory(const scratch_directory&) = delete;
    scratch_directory& operator=(const scratch_directory&) = delete;

    [[nodiscard]] std::string file(const char* name, mode_t mode) const {
        const std::string path = path_ + "/" + name;
        const unique_fd made(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, mode));
        REQUIRE(made);
        return path;
    }
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    std::string path_;
};

// The path, or why there is none.
std::string found(const std::string& given) {
    const auto path = find_daemon(given);
    return path ? *path : path.error().message();
}

}  // namespace

TEST_CASE("the daemon is looked for beside the program, the library, where it is installed, PATH") {
    CHECK(daemon_places({.program = "/app/bin",
                         .library = "/lib/own",
                         .installed = "/usr/bin",
                         .path = "/first:relative:/last"}) ==
          places{"/app/bin/cleanforkd", "/app/sbin/cleanforkd", "/lib/own/cleanforkd",
                 "/lib/bin/cleanforkd", "/lib/sbin/cleanforkd", "/usr/bin/cleanforkd",
                 "/first/cleanforkd", "relative/cleanforkd", "/last/cleanforkd"});
}

TEST_CASE("a place that has several names is looked at once, at its first") {
    CHECK(
        daemon_places(
            {.program = "/x/bin", .library = "/x/bin", .installed = "/x/bin", .path = "/x/sbin"}) ==
        places{"/x/bin/cleanforkd", "/x/sbin/cleanforkd"});
}

TEST_CASE("what is not known is not looked at, nor an empty element of PATH") {
    CHECK(daemon_places({}).empty());
    CHECK(daemon_places({.program = {}, .library = {}, .installed = {}, .path = ":/a::/b:"}) ==
          places{"/a/cleanforkd", "/b/cleanforkd"});
}

TEST_CASE("from a directory of the root the daemon is in /bin or /sbin") {
    CHECK(daemon_places({.program = "", .library = "/lib", .installed = {}, .path = {}}) ==
          places{"/lib/cleanforkd", "/bin/cleanforkd", "/sbin/cleanforkd"});
}

TEST_CASE("CLEANFORK_DAEMON is looked at alone, and what is given before it") {
    const scratch_directory scratch;
    const std::string one = scratch.file("one", 0700);
    const std::string other = scratch.file("other", 0700);
    const environment_variable named("CLEANFORK_DAEMON", one.c_str());
    CHECK(found("") == one);
    CHECK(found(other) == other);
    const auto absent = find_daemon(scratch.path() + "/none");
    REQUIRE_FALSE(absent.has_value());
    CHECK(absent.error() == failure{step::launch, ENOENT, scratch.path() + "/none",
                                    "the option that names the daemon names no program"});
}

TEST_CASE("a named daemon that cannot be run is an error, however many others there are") {
    const scratch_directory scratch;
    const std::string text = scratch.file("text", 0600);
    const environment_variable named("CLEANFORK_DAEMON", text.c_str());
    const environment_variable path("PATH", CLEANFORK_BIN_DIR);
    const auto refused = find_daemon("");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error() ==
          failure{step::launch, EACCES, text, "CLEANFORK_DAEMON names no program"});
    CHECK(find_daemon(scratch.path()).error().error_number == EACCES);
}

TEST_CASE("without a name the daemon is the one beside this program") {
    for (const char* unnamed : {static_cast<const char*>(nullptr), ""}) {
        const environment_variable named("CLEANFORK_DAEMON", unnamed);
        const environment_variable path("PATH", "/no/such/directory");
        CHECK(found("") == CLEANFORK_BIN_DIR "/cleanforkd");
    }
}
