#include <doctest/doctest.h>

#include <cerrno>
#include <cleanfork/failure.hpp>

using namespace cleanfork;

TEST_CASE("a failure says its step, its object, the errno, and what to do about it") {
    CHECK(failure{step::chdir, ENOENT, "/x", {}}.message() ==
          "chdir \"/x\": No such file or directory (ENOENT); no such working directory");
    CHECK(failure{step::uid, EPERM, {}, {}}.message() ==
          "uid: Operation not permitted (EPERM); changing users needs a forkserver that runs as "
          "root");
}

TEST_CASE("its own detail goes before what is known of its step and errno") {
    CHECK(failure{step::chdir, ENOENT, "/x", "a detail"}.message() ==
          "chdir \"/x\": No such file or directory (ENOENT); a detail");
    CHECK(failure{step::request, 0, {}, "a detail"}.message() == "request: a detail");
}

TEST_CASE("where nothing is known to do, nothing is said") {
    CHECK(failure{step::chdir, EIO, {}, {}}.message() == "chdir: Input/output error (EIO)");
    CHECK(failure{step::none, 0, {}, {}}.message() == "none");
}

TEST_CASE("a program that is missing is explained by how it was named") {
    const auto remedy_for = [](const char* object) {
        const std::string text = failure{step::exec, ENOENT, object, {}}.message();
        return text.substr(text.find("; ") + 2);
    };
    CHECK(remedy_for("descriptor 3") == "a script cannot be run by descriptor: give its path");
    CHECK(remedy_for("prog") == "no such program in PATH of the child's environment");
    CHECK(remedy_for("/bin/prog") ==
          "no such program, or its interpreter (#! line, ELF loader) is missing");
}
